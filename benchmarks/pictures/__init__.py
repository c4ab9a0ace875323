"""Classes, oddness and membership by pictures."""
