"""What is changed on the machine: desired state, steps and the journal."""
