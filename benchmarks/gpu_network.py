"""The published network on a device, from an Arrow window or from columns that are there to p-values, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from eddyline.calibration import Calibration
from eddyline.detectors.gae import fused
from eddyline.detectors.gae.edges import Edges
from eddyline.detectors.gae.model import GuidedGae, Sizes
from eddyline.detectors.gae.node_features import address_features, propagate
from eddyline.graphs import FlowGraph, build_graph
from eddyline.lookups import DeviceCalibration
from eddyline.windows import Window

FEATURES: Final = ("bytes", "rev_bytes", "duration_us")


class Network:
    """The published network with weights drawn from a seed, on the card, and all the way from a window to p."""

    def __init__(self, like: Window, sizes: Sizes, seed: int, device: str) -> None:
        torch.manual_seed(seed)
        model, self.device = GuidedGae(sizes, fused.chunk_for(device)).eval(), device
        for layer in (*model.unet.down, *model.unet.up):
            layer.weight.mul_(0.3)  # or tanh of pooling saturates, and rounding decides ties
        graph = build_graph(like)
        raw = torch.stack([graph.feature(name) for name in FEATURES], 1).double()
        self.mean, self.scale = raw.mean(0).to(device), raw.std(0).to(device)
        self.projection = (torch.rand(4, sizes.in_channels) * 2 - 1).to(device)
        self.model = model.to(device)
        found = self.score(build_graph(like, device), lambda _: None)
        calibration = Calibration.of(found.float().cpu().numpy())
        self.calibration = DeviceCalibration.of(calibration, device)

    def edges(self, graph: FlowGraph) -> Edges:
        """Flows of a window by pair, scaled."""
        return Edges.of(graph.edge_index, self.attr(graph), len(graph.hosts), graph.pairs())

    def attr(self, graph: FlowGraph) -> Tensor:
        """Scaled features of each flow, (E, 3)."""
        raw = torch.stack([graph.feature(name) for name in FEATURES], 1)
        return ((raw.double() - self.mean) / self.scale).float()

    def placed(self, graph: FlowGraph, edges: Edges) -> Tensor:
        """Node features, (N, D)."""
        own = address_features(graph.hosts, self.projection)
        return propagate(own, edges.pairs, edges.hosts, edges.flows_per_pair())

    def score(self, graph: FlowGraph, step: Callable[[str], None]) -> Tensor:
        """Raw scores of a graph, (E,)."""
        graph.pairs()
        step("pairs")
        edges = self.edges(graph)
        step("features")
        x = self.placed(graph, edges)
        step("node features")
        attended = F.elu(self.model.attention(x, edges))
        step("attention")
        z = self.model.unet(self.model.norm(attended), edges)
        step("U-Net")
        raw = -self.model.logits(z, edges, self.model.summary(edges.attr))
        step("decoder")
        return raw

    def from_device(self, graph: FlowGraph, step: Callable[[str], None]) -> Tensor:
        """p-values of columns that are on the device, left there."""
        bare = FlowGraph(graph.window, graph.hosts, graph.edge_index, graph.edge_features)
        p = self.calibration.p(self.score(bare, step))
        step("p")
        return p

    def from_host(self, made: Window, cudf: bool, step: Callable[[str], None]) -> Tensor:
        """p-values of an Arrow window, back in host memory."""
        graph = build_graph(made, self.device, cudf)
        step("graph")
        p = self.from_device(graph, step).cpu()
        step("copy out")
        return p

    def in_turn(self, windows: list[Window], cudf: bool) -> None:
        """Score several windows; each is packed and copied on a stream of its own while the one before is scored."""
        side = torch.cuda.Stream() if self.device != "cpu" else None

        def arrive(made: Window) -> FlowGraph:
            with torch.inference_mode(), torch.cuda.stream(side):
                graph = build_graph(made, self.device, cudf)
            if side is not None:
                side.synchronize()
            return graph

        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(arrive, windows[0])
            for place in range(len(windows)):
                graph = coming.result()
                if place + 1 < len(windows):
                    coming = ahead.submit(arrive, windows[place + 1])
                self.from_device(graph, lambda _: None).cpu()  # its memory is free for the next but one from here on

    @contextmanager
    def mode(self, dtype: torch.dtype, precision: fused.Precision, by_kernels: bool) -> Iterator[None]:
        """Choose how products are made; torch alone where kernels may not be used."""
        usable = fused.usable
        self.model.decoder.products, self.model.decoder.precision = dtype, precision
        if not by_kernels:
            fused.usable = lambda *_: False
        try:
            yield
        finally:
            fused.usable = usable

    def work(self, hosts: int, pairs: int, flows: int) -> dict[str, tuple[float, float]]:
        """Least bytes to move and FLOP of the two steps whose kernels are ours."""
        sizes = self.model.sizes
        width, first = sizes.heads * sizes.hidden, 3 * sizes.hidden
        ends, seen = pairs + hosts, flows + hosts  # a loop at every host
        logits = 4 * sizes.heads * (seen + 2 * ends) + seen * (8 + 4 * sizes.edge_dim) + 4 * hosts * width * 4
        attention = seen * width * (2 * sizes.edge_dim + 6) + 2 * ends * width + 4 * hosts * width * sizes.in_channels
        judged = flows * (16 + 4 * sizes.edge_dim + 4) + pairs * (8 * sizes.hidden + 2 * 4 * first)
        product = 2 * sizes.hidden * first
        decoder = flows * (2 * sizes.hidden * sizes.edge_dim + product + 3 * first) + pairs * product
        return {"attention": (float(logits), float(attention)), "decoder": (float(judged), float(decoder))}
