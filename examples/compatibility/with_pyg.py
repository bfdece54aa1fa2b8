"""torch_geometric: a graph convolution on batches of graphs of unequal size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GCNConv, global_mean_pool

from examples.compatibility.case import Case
from examples.compatibility.own_module import OwnModule


def ring(size: int) -> Data:
    """A ring of nodes with drawn features, and its class."""
    here = torch.arange(size)
    there = (here + 1) % size
    edges = torch.stack([torch.cat([here, there]), torch.cat([there, here])])
    features = torch.randn(size, 3, generator=torch.Generator().manual_seed(size))
    return Data(x=features, edge_index=edges, y=torch.tensor([size % 3]))


GRAPHS = [ring(size) for size in range(3, 19)]


class Network(nn.Module):
    """Two convolutions and a mean over the nodes of each graph."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = GCNConv(3, 5), GCNConv(5, 3)

    def forward(self, batch: Any) -> Tensor:
        """Logits of each graph."""
        hidden = self.first(batch.x, batch.edge_index).tanh()
        return global_mean_pool(self.second(hidden, batch.edge_index), batch.batch)


def batch_loss(network: Network, batch: Any) -> Tensor:
    """Of a batch's graphs."""
    return F.cross_entropy(network(batch), batch.y)


def train(callbacks: list[Any]) -> OwnModule:
    """On batches that the package collates."""
    loader = DataLoader(GRAPHS, batch_size=6, shuffle=True)
    return OwnModule(Network(), batch_loss).fitted(loader, callbacks)


def loss(module: OwnModule) -> Tensor:
    """One graph after the other, by dense matrices: ``A = D^-1/2 (I + E) D^-1/2``."""
    first, second = module.network.first, module.network.second
    losses = []
    for graph in GRAPHS:
        edges = torch.eye(graph.num_nodes, dtype=torch.float64)
        edges[graph.edge_index[1], graph.edge_index[0]] = 1.0
        root = edges.sum(1).rsqrt()
        edges = root[:, None] * edges * root
        hidden = (edges @ graph.x.double() @ first.lin.weight.T + first.bias).tanh()
        logits = (edges @ hidden @ second.lin.weight.T + second.bias).mean(0)
        losses.append(F.cross_entropy(logits, graph.y[0]))
    return torch.stack(losses).mean()


CASE = Case("graph convolution, batches of graphs", train, loss)
