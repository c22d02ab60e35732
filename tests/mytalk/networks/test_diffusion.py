"""The diffusion process against closed forms, numerical integration and an independent solver."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from mytalk.networks import diffusion
from mytalk.networks.diffusion import BETA_MAX, BETA_MIN, SIGMA_FLOOR, START_TEMPERATURE, T_MIN


def scales(t: float) -> tuple[float, float]:
    """alpha and sigma of one time as plain numbers."""
    alpha, sigma = diffusion.alpha_sigma(torch.tensor(t, dtype=torch.float64))
    return alpha.item(), sigma.item()


def test_variance_is_preserved_at_every_time():
    times = torch.linspace(T_MIN, 1, 1001, dtype=torch.float64)
    alpha, sigma = diffusion.alpha_sigma(times)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(times), rtol=0, atol=1e-14)
    assert (alpha.diff() < 0).all()
    assert (sigma.diff() > 0).all()


def test_time_0_is_data_and_time_1_is_noise():
    """All data at 0, all but exp(-5) noise at 1; float32 keeps its digits where sigma is small."""
    assert scales(0.0) == (1.0, 0.0)
    alpha, sigma = scales(1.0)
    assert alpha == pytest.approx(math.exp(-(BETA_MIN + BETA_MAX) / 4), rel=1e-12)
    assert alpha < 0.01
    assert sigma > 0.9999
    _, exact = scales(T_MIN)
    rough = diffusion.alpha_sigma(torch.tensor(T_MIN))[1].item()
    assert rough == pytest.approx(exact, rel=1e-5)
    assert exact == pytest.approx(math.sqrt(BETA_MIN * T_MIN), rel=2e-3)


@pytest.mark.parametrize("t", [T_MIN, 0.01, 0.3, 0.77, 1.0])
def test_the_integral_is_that_of_beta(t):
    """alpha = exp(-1/2 integral of beta), with beta rising linearly from 0.05 to 20."""
    integral, _ = quad(lambda u: 0.05 + (20.0 - 0.05) * u, 0, t, epsabs=1e-14)
    alpha, sigma = scales(t)
    assert alpha == pytest.approx(math.exp(-integral / 2), rel=1e-10)
    assert sigma == pytest.approx(math.sqrt(1 - math.exp(-integral)), rel=1e-8)


def test_add_noise_uses_each_examples_own_time():
    random = np.random.default_rng(0)
    x0, noise = random.standard_normal((2, 4, 3, 5, 2))
    times = [T_MIN, 0.2, 0.5, 1.0]
    made = diffusion.add_noise(torch.tensor(x0), torch.tensor(times, dtype=torch.float64), torch.tensor(noise))
    for index, t in enumerate(times):
        alpha, sigma = scales(t)
        np.testing.assert_allclose(made[index].numpy(), alpha * x0[index] + sigma * noise[index], rtol=1e-12)


@pytest.mark.parametrize("t", [T_MIN, 0.001, 0.05, 0.4, 1.0])
def test_loss_is_l1_of_x0_and_of_the_derived_eps(t):
    """Written out number by number: eps_hat = (x_t - alpha x0_hat) / max(sigma, floor), over valid frames only."""
    random = np.random.default_rng(1)
    x0, guess, noise = random.standard_normal((3, 3, 6, 4, 2))
    valid = [6, 4, 1]
    alpha, sigma = scales(t)
    floored = max(sigma, SIGMA_FLOOR)
    expected = []
    for b in range(3):
        terms = []
        for frame, point, axis in np.ndindex(valid[b], 4, 2):
            at = (b, frame, point, axis)
            x_t = alpha * x0[at] + sigma * noise[at]
            eps, eps_hat = (x_t - alpha * x0[at]) / floored, (x_t - alpha * guess[at]) / floored
            if sigma > SIGMA_FLOOR:
                assert eps == pytest.approx(noise[at], abs=1e-9)
            terms.append(abs(x0[at] - guess[at]) + abs(eps - eps_hat))
        expected.append(np.mean(terms))
    mask = torch.tensor([[float(frame < length) for frame in range(6)] for length in valid], dtype=torch.float64)
    t_B = torch.full((3,), t, dtype=torch.float64)
    weight = diffusion.loss_weight(t_B, "x0", "target")
    loss = diffusion.x0_error(torch.tensor(x0), torch.tensor(guess), mask) * weight
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-11)
    padded = torch.tensor(guess) + 1e3 * (1 - mask)[..., None, None]
    torch.testing.assert_close(diffusion.x0_error(torch.tensor(x0), padded, mask) * weight, loss)


def gaussian(mu: torch.Tensor, s: torch.Tensor) -> diffusion.Denoise:
    """E[x0 | x_t] of data N(mu, s^2): the best denoiser there is."""

    def denoise(x, t_B):
        alpha, sigma = (diffusion.per_example(v, x) for v in diffusion.alpha_sigma(t_B))
        return mu + alpha * s**2 / (alpha**2 * s**2 + sigma**2) * (x - alpha * mu)

    return denoise


def gaussian_error(steps: int, times: str = "uniform", s: torch.Tensor | None = None) -> float:
    """Distance of the sampler from the ODE's closed solution for Gaussian data.

    (x - alpha mu) / sqrt(alpha^2 s^2 + sigma^2) stays constant along the probability-flow ODE.
    """
    random = torch.Generator().manual_seed(3)
    noise, mu = torch.randn(2, 5, 7, 2, dtype=torch.float64, generator=random)
    s = torch.linspace(0.2, 2.0, 7, dtype=torch.float64)[:, None] if s is None else s
    alpha, sigma = scales(1.0)
    exact = mu + s * (noise / START_TEMPERATURE - alpha * mu) / (alpha**2 * s**2 + sigma**2).sqrt()
    made = diffusion.sample(gaussian(mu, s), noise, steps, times)
    return (made - exact).abs().max().item()


def test_sampling_gaussian_data_tends_to_the_closed_solution():
    """mu + s * noise in the limit, at first order: twice the steps, half the error."""
    errors = [gaussian_error(steps) for steps in (250, 500, 1000, 2000)]
    assert errors[-1] < 2e-3
    for coarse, fine in itertools.pairwise(errors):
        assert 1.7 < coarse / fine < 2.3


def test_sampling_agrees_with_plain_euler_steps():
    """Data at two places of unequal weight: no closed solution, so Euler on the ODE itself, in numpy.

    dx/dt = -beta/2 (x + score), score = (alpha x0_hat - x) / sigma^2, at t = 1 - (i + 1/2)/N.
    """
    places, weights, s = np.array([-1.0, 2.0]), np.array([0.7, 0.3]), 0.3

    def best(x, alpha, sigma):
        variance = alpha**2 * s**2 + sigma**2
        log = np.log(weights) - (x[..., None] - alpha * places) ** 2 / (2 * variance)
        share = np.exp(log - log.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        means = places + alpha * s**2 / variance * (x[..., None] - alpha * places)
        return (share * means).sum(-1)

    noise = np.random.default_rng(4).standard_normal((8, 6))
    steps = 20_000
    x = noise / START_TEMPERATURE
    for i in range(steps):
        t = 1 - (i + 0.5) / steps
        beta, integral = 0.05 + 19.95 * t, 0.05 * t + 19.95 * t * t / 2
        alpha, variance = math.exp(-integral / 2), 1 - math.exp(-integral)
        x = x + 0.5 * beta * (x + (alpha * best(x, alpha, math.sqrt(variance)) - x) / variance) / steps

    def denoise(x_t, t_B):
        return torch.from_numpy(best(x_t.numpy(), *scales(t_B[0].item())))

    made = diffusion.sample(denoise, torch.from_numpy(noise), 2000).numpy()
    np.testing.assert_allclose(made, x, atol=0.01)
    assert (made < 0).any()
    assert (made > 1).any()


def test_few_steps_do_not_overshoot():
    """A denoiser that knows the answer is followed to it exactly, however few the steps."""
    noise = torch.randn(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    answer = torch.full_like(noise, 0.5)
    for steps in (1, 2, 10):
        times = []

        def denoise(x, t_B, seen=times):
            seen.append(t_B)
            return answer

        torch.testing.assert_close(diffusion.sample(denoise, noise, steps), answer, rtol=0, atol=1e-12)
        assert [t[0].item() for t in times] == pytest.approx([1 - i / steps for i in range(steps)])
        assert all(t.shape == (2,) for t in times)


@pytest.mark.parametrize("value", [-9.9, -3.0, 0.0, 2.5, 6.0, 14.0])
def test_the_time_of_a_log_snr_has_it(value):
    """Against alpha and sigma, and an integral of beta solved by another formula."""
    t = diffusion.time_of(torch.tensor(value, dtype=torch.float64)).item()
    alpha, sigma = scales(t)
    assert math.log(alpha**2 / sigma**2) == pytest.approx(value, abs=1e-6)
    assert diffusion.log_snr(torch.tensor(t, dtype=torch.float64)).item() == pytest.approx(value, abs=1e-6)
    roots = np.roots([(BETA_MAX - BETA_MIN) / 2, BETA_MIN, -math.log1p(math.exp(-value))])
    assert t == pytest.approx(roots.max(), rel=1e-7)


def test_training_times_are_uniform_in_what_they_say():
    u = torch.linspace(0, 1, 101, dtype=torch.float64)
    plain = diffusion.training_times(u, "uniform")
    torch.testing.assert_close(plain, T_MIN + (1 - T_MIN) * u)
    times = diffusion.training_times(u, "log_snr")
    gaps = diffusion.log_snr(times).diff()
    torch.testing.assert_close(gaps, gaps.mean().expand_as(gaps), rtol=1e-6, atol=0)
    assert times[-1].item() == pytest.approx(1.0, abs=1e-9)
    assert scales(times[0].item())[1] == pytest.approx(SIGMA_FLOOR, rel=0.01)


@pytest.mark.parametrize("times", diffusion.TIMES)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_sampling_goes_from_noise_to_data(times, steps):
    """From t = 1 down to 0; one step is the same prediction whatever the times."""
    chosen = diffusion.sampling_times(steps, times)
    assert chosen.shape == (steps + 1,)
    assert (chosen[0].item(), chosen[-1].item()) == (pytest.approx(1.0), 0.0)
    assert (chosen.diff() < 0).all()


@pytest.mark.parametrize("steps", [5, 8])
def test_few_steps_serve_motion_in_the_models_unit_badly_and_both_cures_help(steps):
    """Gaussian data of deviation 0.17, as motion has in units of 16 px: errors in units of the deviation.

    Steps even in log-SNR help it. So does data of unit variance, which is then better served by steps even in time.
    """
    small, unit = (torch.full((7, 1), s, dtype=torch.float64) for s in (0.17, 1.0))
    plain = gaussian_error(steps, "uniform", small) / 0.17
    assert gaussian_error(steps, "log_snr", small) / 0.17 < 0.6 * plain
    assert gaussian_error(steps, "uniform", unit) < 0.5 * plain
    assert gaussian_error(steps, "uniform", unit) < gaussian_error(steps, "log_snr", unit)


def test_half_the_step_of_second_order_is_a_quarter_of_the_error():
    """Gaussian data's closed solution where the last step starts, at which every sampler ends at a prediction."""
    errors = {name: [before_the_end(name, steps, "log_snr") for steps in (33, 65, 129)] for name in diffusion.SAMPLERS}
    for name, order in (("exponential", 1), ("second_order", 2)):
        for coarse, fine in itertools.pairwise(errors[name]):
            assert coarse / fine == pytest.approx(2**order, rel=0.25), (name, errors)
    assert errors["second_order"][0] < 0.3 * errors["exponential"][0], errors
    assert before_the_end("second_order", 8, "uniform") < 0.5 * before_the_end("exponential", 8, "uniform")
    for coarse, fine in itertools.pairwise(before_the_end("euler", steps, "uniform") for steps in (32, 64, 128)):
        assert coarse / fine == pytest.approx(2, rel=0.25)


def before_the_end(sampler: str, steps: int, times: str) -> float:
    """The error of x at the start of the last step, in units of its deviation. Data of deviation 0.5 to 2."""
    random = torch.Generator().manual_seed(3)
    noise, mu = torch.randn(2, 5, 7, 2, dtype=torch.float64, generator=random)
    s = torch.linspace(0.5, 2.0, 7, dtype=torch.float64)[:, None]
    seen = []

    def denoise(x, t_B):
        seen.append((x, t_B))
        return gaussian(mu, s)(x, t_B)

    diffusion.sample(denoise, noise, steps, times, sampler)
    units = []
    for x, t_B in ((noise / START_TEMPERATURE, torch.ones(1, dtype=torch.float64)), seen[-1]):
        alpha, sigma = scales(t_B[0].item())
        units.append((x - alpha * mu) / (alpha**2 * s**2 + sigma**2).sqrt())
    return (units[1] - units[0]).abs().max().item()


@pytest.mark.parametrize("sampler", diffusion.SAMPLERS)
def test_every_sampler_ends_at_its_last_prediction(sampler):
    """So a promise that is held in it holds in the result; one step is the same for all."""
    noise = torch.randn(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    for steps in (1, 2, 5):
        made = []

        def denoise(x, t_B, made=made):
            made.append(0.9 * x + t_B[0])
            return made[-1]

        torch.testing.assert_close(diffusion.sample(denoise, noise, steps, sampler=sampler), made[-1])


def targets(x0: torch.Tensor, noise: torch.Tensor, t_B: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a network is to predict, by definition."""
    alpha, sigma = (diffusion.per_example(v, x0) for v in diffusion.alpha_sigma(t_B))
    return {"x0": x0, "v": alpha * noise - sigma * x0, "flow": noise - x0}


@pytest.mark.parametrize("prediction", diffusion.PREDICTIONS)
def test_the_loss_is_l1_of_what_is_predicted(prediction):
    """From the definitions of v and u; an output that is the target gives x0 itself, to float32 near t = 0 too."""
    random = torch.Generator().manual_seed(6)
    x0, noise, wrong = torch.randn(3, 4, 6, 5, 2, dtype=torch.float64, generator=random)
    t_B, mask = torch.tensor([T_MIN, 0.03, 0.4, 1.0], dtype=torch.float64), torch.ones(4, 6, dtype=torch.float64)
    x_t, target = diffusion.add_noise(x0, t_B, noise), targets(x0, noise, t_B)[prediction]
    torch.testing.assert_close(diffusion.x0_of(target, x_t, t_B, prediction), x0)
    single = diffusion.x0_of(target.float(), x_t.float(), t_B.float(), prediction)
    torch.testing.assert_close(single.double(), x0, rtol=0, atol=1e-5)
    guess = diffusion.x0_of(target + wrong, x_t, t_B, prediction)
    loss_B = diffusion.x0_error(x0, guess, mask) * diffusion.loss_weight(t_B, prediction, "target")
    if prediction != "x0":  # x0 has the noise beside it, see above
        torch.testing.assert_close(loss_B, wrong.abs().mean((1, 2, 3)), rtol=1e-9, atol=0)
    even_B = diffusion.x0_error(x0, guess, mask) * diffusion.loss_weight(t_B, prediction, "uniform")
    torch.testing.assert_close(even_B, (guess - x0).abs().mean((1, 2, 3)))


def test_min_snr_weighs_the_squared_error_by_the_snr_up_to_5():
    times = torch.linspace(T_MIN, 1, 301, dtype=torch.float64)
    weight = diffusion.loss_weight(times, "v", "min_snr")
    for t, found in zip(times.tolist(), weight.tolist()):
        alpha, sigma = scales(t)
        assert found**2 == pytest.approx(min(alpha**2 / sigma**2, 5.0), rel=1e-9)
    assert torch.equal(weight, diffusion.loss_weight(times, "x0", "min_snr")), "an error in x0 costs what it costs"


@pytest.mark.parametrize("prediction", ["v", "flow"])
def test_what_a_regression_learns_to_predict_samples_as_the_best_denoiser(prediction):
    """Gaussian data: v and u fitted by least squares at every time, then solved: the closed solution's distribution.

    The regression of the target on x_t is a line, whose x0 must be E[x0 | x_t].
    """
    random = torch.Generator().manual_seed(7)
    mu, s, many = 0.4, 0.7, 40_000
    x0 = mu + s * torch.randn(many, 1, dtype=torch.float64, generator=random)
    noise = torch.randn(many, 1, dtype=torch.float64, generator=random)
    best = gaussian(torch.tensor(mu), torch.tensor(s))

    def fitted(x, t_B):
        t_n = t_B[0].expand(many)
        x_t = diffusion.add_noise(x0, t_n, noise)
        design = torch.cat([x_t, torch.ones_like(x_t)], dim=1)
        line = torch.linalg.lstsq(design, targets(x0, noise, t_n)[prediction]).solution[:, 0]
        return diffusion.x0_of(line[0] * x + line[1], x, t_B, prediction)

    start = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    for t in (0.05, 0.3, 0.7, 1.0):
        t_B = torch.full((9,), t, dtype=torch.float64)
        torch.testing.assert_close(fitted(start, t_B), best(start, t_B), rtol=0, atol=0.03)
    for times in ("uniform", "straight"):
        solved, exact = (diffusion.sample(one, start, 12, times) for one in (fitted, best))
        torch.testing.assert_close(solved, exact, rtol=0, atol=0.03)


def test_steps_on_the_straight_path_are_eulers_of_flow_matching():
    """y = x / (alpha + sigma) runs along dy/ds = E[z - x0 | y]: its Euler steps, even in s, are exponential ones."""
    mu, s = 0.4, 0.7
    noise = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    made = diffusion.sample(gaussian(torch.tensor(mu), torch.tensor(s)), noise, 9, "straight")
    alpha, sigma = scales(1.0)
    y, first = noise / START_TEMPERATURE / (alpha + sigma), sigma / (alpha + sigma)
    for step in range(9):
        share = first * (1 - step / 9)
        variance = (1 - share) ** 2 * s**2 + share**2
        x0 = mu + (1 - share) * s**2 / variance * (y - (1 - share) * mu)
        z = share / variance * (y - (1 - share) * mu)
        y = y - first / 9 * (z - x0)
    torch.testing.assert_close(made, y, rtol=0, atol=1e-7)
    u = torch.linspace(0, 1, 11, dtype=torch.float64)
    gaps = diffusion.noise_share(diffusion.training_times(u, "straight")).diff()
    torch.testing.assert_close(gaps, gaps.mean().expand_as(gaps), rtol=1e-6, atol=0)
