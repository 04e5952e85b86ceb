"""What the stand-in says over HTTP and gRPC, and the faults it can be told to have."""
