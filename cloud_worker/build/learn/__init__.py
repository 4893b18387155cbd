"""What no export can give: a bottleneck and an early exit, learnt by distillation from the unsplit model."""
