"""The published network flow by flow, from torch-geometric's own layers: what our arithmetic is compared with.

Written by us after the description of NVIDIA's `gnn-netflow-ad`; nothing is shared between parallel flows, pooling
forms A·A, and node features multiply with powers of a matrix, as there. Two things are kinder than there: addresses
become indices by our graph construction, and scores stay in the window's order, so that no join is needed.
"""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eddyline.detectors.gae.model import GuidedGae
from eddyline.detectors.gae.parity import own_name

with warnings.catch_warnings():  # it compiles with torch.jit, which torch calls deprecated
    warnings.simplefilter("ignore")
    from torch_geometric.nn import GATv2Conv, GraphUNet

_HOPS = 3
_NOTHING = 1e-9  # as in `propagate`: a hop shorter than this is rounding, which the published code blows up to length 1


class ReferenceGae(nn.Module):
    """One window in, one logit per flow out, with the weights of `model` under their published names, in its mode."""

    def __init__(self, model: GuidedGae) -> None:
        super().__init__()
        sizes, width = model.sizes, model.sizes.hidden
        self.encoder = nn.ModuleDict(
            {
                "conv1": GATv2Conv(sizes.in_channels, width, heads=sizes.heads, edge_dim=sizes.edge_dim),
                "batch_norm": nn.BatchNorm1d(sizes.heads * width),
                "unet": GraphUNet(sizes.heads * width, width, width, sizes.depth, sizes.ratio),
            }
        )
        layers = [nn.Linear(sizes.edge_dim, sizes.global_dim), nn.ReLU(), nn.Linear(sizes.global_dim, sizes.global_dim)]
        self.global_edge_embedding = nn.ModuleDict({"mlp": nn.Sequential(*layers)})
        self.decoder = nn.ModuleDict(
            {
                "fc_edge": nn.Linear(sizes.edge_dim, width),
                "fc_global": nn.Linear(sizes.global_dim, width),
                "fc1": nn.Linear(3 * width, 3 * width),
                "fc": nn.Linear(3 * width, 1),
            }
        )
        self.train(model.training).to(next(model.parameters()).dtype)
        state = model.state_dict()
        self.load_state_dict({k: state[own_name(k)].view_as(v) for k, v in self.state_dict().items()})

    def attend(self, x: Tensor, edge_index: Tensor, attr: Tensor) -> Tensor:
        """Node features (N, D) and flows to what every host receives, (N, heads * H)."""
        attended: Tensor = self.encoder["conv1"](x, edge_index, attr)
        return attended

    def embed(self, x: Tensor, edge_index: Tensor, attr: Tensor) -> Tensor:
        """Node features (N, D) and flows to host embeddings (N, H)."""
        attended = F.elu(self.attend(x, edge_index, attr))
        z: Tensor = self.encoder["unet"](self.encoder["batch_norm"](attended), edge_index)
        return z

    def logits(self, z: Tensor, edge_index: Tensor, attr: Tensor) -> Tensor:
        """One logit per flow, (E,): the first layer sees all three parts side by side, of every flow."""
        summary = self.global_edge_embedding["mlp"](attr.mean(0, keepdim=True)).expand(len(attr), -1)
        hosts = z[edge_index[0]] * z[edge_index[1]]
        parts = [hosts, F.relu(self.decoder["fc_edge"](attr)), F.relu(self.decoder["fc_global"](summary))]
        found: Tensor = self.decoder["fc"](F.elu(self.decoder["fc1"](torch.cat(parts, 1))))[:, 0]
        return found


def plain_node_features(own: Tensor, edge_index: Tensor) -> Tensor:
    """Add what each host sends to at one to three hops, by powers of D^-1 A: float32 (N, D), as published."""
    hosts = len(own)
    weight = 1 / torch.bincount(edge_index[0], minlength=hosts).clamp(min=1).double()
    once = torch.sparse_coo_tensor(edge_index, weight[edge_index[0]], (hosts, hosts), check_invariants=False).coalesce()
    powers = [once]
    for _ in range(1, _HOPS):
        powers.append(torch.sparse.mm(powers[-1], once))
    hops = [_unit(own.double())]
    for distance in range(1, _HOPS + 1):
        reached = powers[distance - 1] @ hops[0]
        for earlier in range(1, distance):
            reached = reached - powers[distance - earlier - 1] @ hops[earlier]
        hops.append(_unit(reached) / (distance + 1))
    return torch.stack(hops).sum(0).to(own.dtype)


def _unit(rows: Tensor) -> Tensor:
    length = rows.norm(dim=1, keepdim=True)
    return torch.where(length > _NOTHING, rows / length, 0)
