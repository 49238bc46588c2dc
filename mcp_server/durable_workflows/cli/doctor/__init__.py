"""What `doctor` looks at. Each module has the checks of one kind; a check is a function that returns findings, and changes nothing."""
