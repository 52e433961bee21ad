"""`omokage doctor`: is this machine ready to serve with these settings?"""
