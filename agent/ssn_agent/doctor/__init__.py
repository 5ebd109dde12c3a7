"""`ssn-agent doctor`: what a support engineer would look at, judged, and one file to send."""
