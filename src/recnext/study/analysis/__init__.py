"""What RecConv reaches and costs: receptive fields, parameters, MACs and time, as laws and as measurements."""
