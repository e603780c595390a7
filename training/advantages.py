"""What reinforcement learning from a reward computes from numbers alone: advantages, ratios, divergences.

Everything is a function of tensors; a mask is 1 on the tokens of an answer, which stand on the left.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALL = 1e-4  # added to deviations


def leave_one_out(rewards: Tensor) -> Tensor:
    """RLOO: r_i − the mean of the other answers to the same prompt; shape (prompts, k), k ≥ 2.

    Ahmadian et al. 2024, arXiv 2402.14740, eq. 7 (Kool et al. 2019). Rows sum to zero.
    """
    k = rewards.shape[1]
    return (rewards - rewards.mean(1, keepdim=True)) * (k / (k - 1))


def group_normalised(rewards: Tensor) -> Tensor:
    """GRPO: (r_i − mean) / deviation within a prompt; shape (prompts, k).

    Shao et al. 2024, arXiv 2402.03300, section 4.1.2. Rows sum to zero; equal rewards give zeros.
    """
    middle = rewards.mean(1, keepdim=True)
    return (rewards - middle) / (rewards.std(1, keepdim=True, correction=0) + SMALL)


def generalised(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> Tensor:
    """GAE: A_t = Σ_l (γλ)^l δ_{t+l}, δ_t = r_t + γ V_{t+1} − V_t; all of shape (rows, tokens).

    Schulman et al. 2016, arXiv 1506.02438, eq. 16. Behind the last token of an answer V is 0.
    """
    found = torch.zeros_like(rewards)
    ahead = torch.zeros_like(rewards[:, 0])
    following = torch.zeros_like(ahead)
    for at in reversed(range(rewards.shape[1])):
        inside = mask[:, at].to(rewards.dtype)
        delta = rewards[:, at] + gamma * following - values[:, at]
        ahead = (delta + gamma * lam * ahead) * inside
        following = values[:, at] * inside
        found[:, at] = ahead
    return found


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over the masked places; 0 elsewhere."""
    some = values[mask.bool()]
    return (values - some.mean()) / (some.std(correction=0) + SMALL) * mask


def clipped(ratio: Tensor, advantages: Tensor, reach: float) -> Tensor:
    """PPO's loss of a token, −min(ρA, clip(ρ, 1 ± reach)A); Schulman et al. 2017, arXiv 1707.06347, eq. 7."""
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - reach, 1 + reach) * advantages)


def k1(logps: Tensor, reference: Tensor) -> Tensor:
    """ln π − ln π_ref of sampled tokens: its mean is KL(π ‖ π_ref), single terms may be negative."""
    return logps - reference


def k3(logps: Tensor, reference: Tensor) -> Tensor:
    """π_ref/π − 1 − ln(π_ref/π): the same mean, never negative, less variance.

    Schulman 2020, "Approximating KL Divergence", http://joschu.net/blog/kl-approx.html
    """
    more = reference - logps
    return torch.expm1(more) - more


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Over the masked places of each row, shape (rows,); 0 for a row without any."""
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)
