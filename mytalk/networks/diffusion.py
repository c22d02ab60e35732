"""The diffusion process of stage 1: continuous variance-preserving SDE, prediction of x0, v or flow, ODE sampling.

Defaults as in GAIA and InstructAvatar (the paper names the forward process and x0 prediction only).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch

BETA_MIN, BETA_MAX = 0.05, 20.0
T_MIN = 1e-5  # times are drawn from [T_MIN, 1]
SIGMA_FLOOR = 0.05  # the eps loss weighs 1 / sigma, which is about 1 400 at T_MIN without a floor
START_TEMPERATURE = 1.8  # sampling starts from N(0, I) / 1.8
TIMES = ("uniform", "log_snr", "straight")
PREDICTIONS = ("x0", "v", "flow")
LOSS_WEIGHTS = ("target", "uniform", "min_snr")
MIN_SNR = 5.0  # gamma of Hang et al. 2023
SAMPLERS = ("exponential", "second_order", "euler")
LOG_SNR_MAX = 6.0  # uniform in log-SNR: up to here, where sigma is 0.05

Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def alpha_sigma(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale of the data and of the noise at time t in (0, 1]: x_t = alpha x0 + sigma z.

    alpha = exp(-B / 2), sigma = sqrt(1 - exp(-B)), B(t) = beta_min t + (beta_max - beta_min) t^2 / 2.
    """
    integral = BETA_MIN * t + (BETA_MAX - BETA_MIN) * t.square() / 2
    return torch.exp(-integral / 2), torch.sqrt(-torch.expm1(-integral))


def log_snr(t: torch.Tensor) -> torch.Tensor:
    """log(alpha^2 / sigma^2) at time t: -log(exp(B) - 1). It falls with t."""
    integral = BETA_MIN * t + (BETA_MAX - BETA_MIN) * t.square() / 2
    return -torch.log(torch.expm1(integral))


def time_of(log_snr: torch.Tensor) -> torch.Tensor:
    """The time at which log(alpha^2 / sigma^2) has this value, the inverse of `log_snr`.

    B = log(1 + exp(-log_snr)), and t is the positive root of (beta_max - beta_min) t^2 / 2 + beta_min t = B.
    """
    integral = torch.nn.functional.softplus(-log_snr)
    return 2 * integral / (BETA_MIN + torch.sqrt(BETA_MIN**2 + 2 * (BETA_MAX - BETA_MIN) * integral))


def noise_share(t: torch.Tensor) -> torch.Tensor:
    """sigma / (alpha + sigma): the time s of the straight path x_t / (alpha + sigma) = (1 - s) x0 + s z."""
    alpha, sigma = alpha_sigma(t)
    return sigma / (alpha + sigma)


def time_of_share(share: torch.Tensor) -> torch.Tensor:
    """The time at which sigma / (alpha + sigma) has this value, the inverse of `noise_share`."""
    return time_of(2 * torch.log((1 - share) / share))


def training_times(u: torch.Tensor, times: str) -> torch.Tensor:
    """Diffusion times of numbers u, uniform in [0, 1).

    Uniform in [T_MIN, 1]; in log-SNR down to that of t = 1; or on the straight path of flow matching (`noise_share`).
    """
    if times == "uniform":
        return T_MIN + (1 - T_MIN) * u
    if times == "straight":
        least, most = noise_share(torch.tensor([T_MIN, 1.0], dtype=torch.float64)).tolist()
        return time_of_share(least + (most - least) * u)
    lowest = float(log_snr(torch.ones((), dtype=torch.float64)))
    return time_of(LOG_SNR_MAX + (lowest - LOG_SNR_MAX) * u)


def sampling_times(steps: int, times: str) -> torch.Tensor:
    """The steps + 1 times from 1 to 0 of a sampler, float64: evenly spaced, or all but the last evenly in log-SNR, or
    evenly on the straight path.
    """
    even = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)
    if times == "uniform" or steps == 1:
        return even
    if times == "straight":
        return time_of_share(float(noise_share(torch.ones((), dtype=torch.float64))) * even)
    even = training_times(torch.linspace(1.0, 0.0, steps, dtype=torch.float64), times)
    return torch.cat([even, torch.zeros(1, dtype=torch.float64)])


def per_example(values_B: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(B,) shaped so that it multiplies (B, ...)."""
    return values_B.reshape(-1, *[1] * (like.dim() - 1))


def add_noise(x0: torch.Tensor, t_B: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """x_t of every example at its own time."""
    alpha_B, sigma_B = alpha_sigma(t_B)
    return per_example(alpha_B, x0) * x0 + per_example(sigma_B, x0) * noise


def x0_of(output: torch.Tensor, x_t: torch.Tensor, t_B: torch.Tensor, prediction: str) -> torch.Tensor:
    """The x0 that a network's output says, (B, ...): x0 itself, v or the flow's velocity.

    v = alpha z - sigma x0, so x0 = alpha x_t - sigma v (Salimans & Ho 2022). flow: u = z - x0, the velocity on the
    straight path, so x0 = (x_t - sigma u) / (alpha + sigma) (Lipman et al. 2023; Liu et al. 2023).
    """
    if prediction == "x0":
        return output
    alpha, sigma = (per_example(scale_B, x_t) for scale_B in alpha_sigma(t_B))
    if prediction == "v":
        return alpha * x_t - sigma * output
    return (x_t - sigma * output) / (alpha + sigma)


def loss_weight(t_B: torch.Tensor, prediction: str, weights: str) -> torch.Tensor:
    """What an error of 1 in x0 costs at time t: (B,).

    `target`: L1 of what is predicted. |v - v_hat| = |x0 - x0_hat| / sigma, |u - u_hat| = (1 + alpha / sigma) |x0 -
    x0_hat|. With x0 it is L1(x0) + L1(eps), eps_hat = (x_t - alpha x0_hat) / sigma: the flow's, but that sigma has a
    floor of 0.05, since there a network's error does not shrink with sigma. `uniform`: 1, whatever is predicted.
    `min_snr`: the root of min(SNR, 5), by which Hang et al. (2023) weigh the square of the error.
    """
    alpha_B, sigma_B = alpha_sigma(t_B)
    if weights == "uniform":
        return torch.ones_like(t_B)
    if weights == "min_snr":
        return (alpha_B / sigma_B).clamp_max(MIN_SNR**0.5)
    if prediction == "v":
        return 1 / sigma_B
    return 1 + alpha_B / (sigma_B.clamp_min(SIGMA_FLOOR) if prediction == "x0" else sigma_B)


def x0_error(x0_BTKx: torch.Tensor, predicted_BTKx: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """L1 of the predicted x0, the mean over each example's valid frames: (B,)."""
    error_BT = (predicted_BTKx - x0_BTKx).abs().flatten(2).mean(-1)
    return (error_BT * mask_BT).sum(1) / mask_BT.sum(1)


def sample(
    denoise: Denoise, noise: torch.Tensor, steps: int, times: str = "uniform", sampler: str = "exponential"
) -> torch.Tensor:
    """Solve the probability-flow ODE from t = 1 to 0 in `steps` steps, starting at `noise` / 1.8.

    `denoise(x_t, t_B)` predicts x0. A step of the sampler `exponential` holds that prediction still and solves the
    rest of the ODE exactly: x_s = alpha_s x0 + sigma_s / sigma_t (x_t - alpha_t x0). This tends to the same solution
    as Euler steps as `steps` grows, and does not overshoot near t = 0 where beta dt / sigma^2 exceeds 2.
    `second_order` takes for x0 the line through this prediction and the one before, in log(alpha / sigma)
    (DPM-Solver++ 2M, Lu et al. 2022). `euler` is the siblings' Euler step, at the middle of each stretch of time.
    The last step of all three ends at a prediction, as `exponential` does: what is held there holds in the result.
    """
    x = noise / START_TEMPERATURE
    chosen = sampling_times(steps, times).to(x.device)
    before: torch.Tensor | None = None  # the prediction of the step before
    for step, (now, after) in enumerate(itertools.pairwise(chosen)):
        last = step == steps - 1
        if sampler == "euler" and not last:
            x = x + (after - now).to(x.dtype) * _slope(denoise, x, (now + after) / 2)
            continue
        alpha_t, sigma_t = (v.to(x.dtype) for v in alpha_sigma(now))
        alpha_s, sigma_s = (v.to(x.dtype) for v in alpha_sigma(after))
        x0 = predicted = denoise(x, now.to(x.dtype).expand(x.shape[0]))
        if sampler == "second_order" and before is not None and not last:
            gone, to_go = (log_snr(chosen[i + 1]) - log_snr(chosen[i]) for i in (step - 1, step))
            x0 = predicted + (to_go / gone / 2).to(x.dtype) * (predicted - before)
        x = alpha_s * x0 + sigma_s / sigma_t * (x - alpha_t * x0)
        before = predicted
    return x


def _slope(denoise: Denoise, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """dx / dt of the probability-flow ODE: -beta / 2 (x + score), score = (alpha x0_hat - x) / sigma^2."""
    alpha, sigma = (v.to(x.dtype) for v in alpha_sigma(t))
    beta = (BETA_MIN + (BETA_MAX - BETA_MIN) * t).to(x.dtype)
    x0 = denoise(x, t.to(x.dtype).expand(x.shape[0]))
    return -beta / 2 * (x + (alpha * x0 - x) / sigma.square())
