"""What PyTorch computes in each case; an operand that is only indexed or shaped comes first."""
