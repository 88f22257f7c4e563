"""What computes the optimizer steps: eager torch, a compiled graph, fused kernels, several processes."""
