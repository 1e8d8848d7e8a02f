"""The model put together from torch_geometric's own layers, one flow at a time, to compare with."""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

with warnings.catch_warnings():  # it compiles with torch.jit, which torch calls deprecated
    warnings.simplefilter("ignore")
    from torch_geometric.nn import GATv2Conv, GraphUNet

from eddyline.detectors.gae.model import GuidedGae
from eddyline.detectors.gae.parity import own_name


class Plain(nn.Module):
    """Holds the weights of `model` under the published names."""

    def __init__(self, model: GuidedGae) -> None:
        super().__init__()
        sizes = model.sizes
        width = sizes.hidden
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
        attended: Tensor = self.encoder["conv1"](x, edge_index, attr)
        return attended

    def embed(self, x: Tensor, edge_index: Tensor, attr: Tensor) -> Tensor:
        z: Tensor = self.encoder["unet"](
            self.encoder["batch_norm"](F.elu(self.attend(x, edge_index, attr))), edge_index
        )
        return z

    def logits(self, z: Tensor, edge_index: Tensor, attr: Tensor) -> Tensor:
        summary = self.global_edge_embedding["mlp"](attr.mean(0, keepdim=True)).expand(len(attr), -1)
        parts = [z[edge_index[0]] * z[edge_index[1]], self.decoder["fc_edge"](attr), self.decoder["fc_global"](summary)]
        joined = torch.cat([parts[0], F.relu(parts[1]), F.relu(parts[2])], 1)
        found: Tensor = self.decoder["fc"](F.elu(self.decoder["fc1"](joined)))[:, 0]
        return found
