"""What is to be done about a fleet's machines: what there should be and what there is in, actions and numbers out. Pure."""
