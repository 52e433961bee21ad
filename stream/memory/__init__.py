"""`omokage memory`: what the first and the last batch do to memory and time, for one model."""
