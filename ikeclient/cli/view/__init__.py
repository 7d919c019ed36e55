"""What people see: texts, live displays and colours."""
