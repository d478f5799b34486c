"""What every GPU carries, by the best source there is: one file for each dialect."""
