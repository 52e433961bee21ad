"""`omokage check`: is this model ready, and for how many sessions?"""
