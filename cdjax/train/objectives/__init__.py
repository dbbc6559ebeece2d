"""What each stage minimises: models, losses and diffusion put together into `loss_fn`."""
