"""Our samplers beside an independent library's schedulers (diffusers), on the same process, times and denoiser."""

import pytest
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

from mytalk.networks import diffusion

STEPS = 8
DEVIATION = 1.3  # of the Gaussian data
ORDER = {"exponential": 1, "second_order": 2}


def denoise(x, t_B):
    """The mean of x0 given x_t, of Gaussian data."""
    alpha, sigma = (diffusion.per_example(scale_B, x) for scale_B in diffusion.alpha_sigma(t_B.double()))
    return alpha * DEVIATION**2 / (alpha**2 * DEVIATION**2 + sigma**2) * x


def sampled_by_peer(noise, times_i, order):
    """DPM-Solver++ of this order over these falling times, ended by one prediction, as ours ends."""
    rising_i = times_i.flip(0)
    kept_i = diffusion.alpha_sigma(rising_i)[0] ** 2  # alphas_cumprod of the times
    betas_i = 1 - kept_i / torch.cat([torch.ones(1, dtype=torch.float64), kept_i[:-1]])
    peer = DPMSolverMultistepScheduler(
        num_train_timesteps=len(times_i),
        trained_betas=betas_i.numpy(),
        solver_order=order,
        prediction_type="sample",
        final_sigmas_type="zero",
        lower_order_final=False,
        euler_at_final=True,
    )
    peer.set_timesteps(timesteps=list(range(len(times_i) - 1, -1, -1)))
    x = noise / diffusion.START_TEMPERATURE
    for place in peer.timesteps:
        x = peer.step(denoise(x, rising_i[int(place)].expand(len(x))), place, x).prev_sample
    return x


@pytest.mark.parametrize("times", diffusion.TIMES)
@pytest.mark.parametrize("sampler", ORDER)
def test_samplers_are_the_library_s(sampler, times):
    """It keeps its noise levels in float32, hence 1e-5 of x."""
    noise = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = diffusion.sample(denoise, noise, STEPS, times, sampler)
    peers = sampled_by_peer(noise, diffusion.sampling_times(STEPS, times)[:-1], ORDER[sampler])
    assert torch.allclose(ours, peers, rtol=0, atol=1e-5 * float(ours.abs().max()))
    other = next(name for name in diffusion.SAMPLERS if name not in (sampler, "euler"))
    assert not torch.allclose(diffusion.sample(denoise, noise, STEPS, times, other), peers, rtol=0, atol=1e-3)
