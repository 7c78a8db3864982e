"""What `mome reproduce` leaves to be read: the last screen, a report for programs, a page to look at, the run sheet."""
