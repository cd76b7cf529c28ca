"""Ways into a node, by SSH or Systems Manager: keys, host keys, commands and files over them, and why one cannot be reached."""
