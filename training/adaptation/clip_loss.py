"""What a clip without truth says of its lifted poses: they must cover the keypoints, and bones keep their lengths."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...core.detector_sites import sites_of
from ...core.lifter.losses import bone_length_loss
from ...core.root_path import KEYPOINT_DEVIATION_M
from ...core.skeletons import LANDMARKS_41

_CHILDREN = [joint for joint, parent in enumerate(LANDMARKS_41.parents) if parent >= 0]
_PARENTS = [LANDMARKS_41.parents[joint] for joint in _CHILDREN]
_MIRROR = LANDMARKS_41.mirrored_order()
_OTHER_SIDE = [_CHILDREN.index(int(_MIRROR[joint])) for joint in _CHILDREN]
# How far the root of one moment may be from the smooth path of the whole clip.
_ROOT_DEVIATION_M = 0.10
_ROUNDS = 4


def torch_detector_sites(landmarks_m: Tensor) -> Tensor:
    """``core.detector_sites.detector_sites`` with gradients: (..., 41, 3) -> (..., 21, 3)."""
    sites: Tensor = sites_of(landmarks_m, torch.stack)
    return sites


def _missed(sites_m: Tensor, root_m: Tensor, rays: Tensor) -> Tensor:
    """(B, 21) how far the rays pass by the placed sites, in units of what is usual."""
    placed = sites_m + root_m[:, None]
    # The squares' sum may be 0, where a norm has no gradient.
    off = (placed[..., :2] - rays * placed[..., 2:]) / KEYPOINT_DEVIATION_M
    return off.square().sum(dim=-1)


@torch.no_grad()
def best_roots(sites_m: Tensor, rays: Tensor, confidence: Tensor, path_m: Tensor) -> Tensor:
    """(B, 3) where each pose covers its rays best, near the path (B, 3) of the clip.

    sites_m (B, 21, 3) about the pelvis; rays (B, 21, 2); confidence (B, 21). Since it is the least of the very sum that
    is learnt from, gradients through it would be 0.
    """
    u, v = rays[..., 0], rays[..., 1]
    ex, ey = u * sites_m[..., 2] - sites_m[..., 0], v * sites_m[..., 2] - sites_m[..., 1]
    base = confidence.square() / KEYPOINT_DEVIATION_M**2
    zero, one = torch.zeros_like(u), torch.ones_like(u)
    rows_x, rows_y = torch.stack([one, zero, -u], dim=-1), torch.stack([zero, one, -v], dim=-1)
    prior = torch.eye(3, dtype=sites_m.dtype, device=sites_m.device) / _ROOT_DEVIATION_M**2
    root = path_m
    for _ in range(_ROUNDS):
        weight = base / torch.sqrt(1 + _missed(sites_m, root, rays))
        weighted_x, weighted_y = weight[..., None] * rows_x, weight[..., None] * rows_y
        matrix = rows_x.mT @ weighted_x + rows_y.mT @ weighted_y + prior
        right = (weighted_x * ex[..., None] + weighted_y * ey[..., None]).sum(dim=1) + path_m @ prior
        root = torch.linalg.solve(matrix, right)
    return root


def reprojection_loss(sites_m: Tensor, rays: Tensor, confidence: Tensor, path_m: Tensor) -> Tensor:
    """Robust mean of how far the rays pass by the poses' sites, metres at the depth of the body.

    The back-projection of the paper (section 4), with the place of the body solved for instead of learnt. Arguments as
    of ``best_roots``.
    """
    root = best_roots(sites_m.detach(), rays, confidence, path_m)
    miss = torch.sqrt(1 + _missed(sites_m, root, rays)) - 1
    weight = confidence.square()
    return KEYPOINT_DEVIATION_M * (weight * miss).sum() / weight.sum().clamp(min=1e-6)


def reprojection_misses(sites_m: Tensor, rays: Tensor, confidence: Tensor, path_m: Tensor) -> Tensor:
    """(B,) ``reprojection_loss`` of each pose for itself; 0 where nothing is seen. Arguments as of ``best_roots``."""
    root = best_roots(sites_m.detach(), rays, confidence, path_m)
    miss = torch.sqrt(1 + _missed(sites_m, root, rays)) - 1
    weight = confidence.square()
    return KEYPOINT_DEVIATION_M * (weight * miss).sum(dim=-1) / weight.sum(dim=-1).clamp(min=1e-6)


def constancy_loss(positions_m: Tensor) -> Tensor:
    """How far bones are from their mean lengths over the clip, and these from those of the other side, metres.

    positions_m: (B, 41, 3)
    """
    lengths = torch.linalg.vector_norm(positions_m[:, _CHILDREN] - positions_m[:, _PARENTS], dim=-1)
    mean = lengths.mean(dim=0)
    return (lengths - mean).abs().mean() + (mean - mean[_OTHER_SIDE]).abs().mean()


def bone_loss(synthetic_m: Tensor, clip_m: Tensor) -> Tensor:
    """The paper's term between (B, 41, 3) poses of views and of the clip."""
    return bone_length_loss(synthetic_m[:, None], clip_m[:, None], LANDMARKS_41.parents)


def acceleration_norms(positions_m: Tensor) -> Tensor:
    """(R, N - 2, 41) lengths of second differences of runs (R, N, 41, 3), metres a frame squared."""
    second = positions_m[:, 2:] - 2 * positions_m[:, 1:-1] + positions_m[:, :-2]
    return torch.linalg.vector_norm(second + 1e-9, dim=-1)


def acceleration_loss(positions_m: Tensor) -> Tensor:
    """Mean of ``acceleration_norms``."""
    return acceleration_norms(positions_m).mean()


def reprojection_mm(sites_m: np.ndarray, root_m: np.ndarray, rays: np.ndarray, confidence: np.ndarray) -> float:
    """Mean distance of the rays from placed sites, millimetres, weighted by confidence; each counts 0.2 m at most.

    sites_m (F, 21, 3), root_m (F, 3), rays (F, 21, 2) with NaN = unseen, confidence (F, 21)
    """
    placed = sites_m + root_m[:, None]
    seen = np.isfinite(rays).all(axis=-1)
    off = np.linalg.norm(placed[..., :2] - np.where(seen[..., None], rays, 0.0) * placed[..., 2:], axis=-1)
    weight = np.where(seen, confidence**2, 0.0)
    return float(1000 * (weight * np.minimum(off, 0.2)).sum() / max(weight.sum(), 1e-9))
