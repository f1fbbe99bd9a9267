"""`contamination plan`: what running a study would take."""
