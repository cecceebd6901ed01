"""A classifier's training as the official code has it: downstream_tasks/train_hub.py at a81337b.

torchvision's transforms take an image at a time in the workers; fp16 with a scaler on a GPU; the
loss is read at each step.
"""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import get_model

from benchmarks.gpu.sizes import Recipe
from stages.shared.classifier.networks import DEVIATION, MEAN, replace_head
from stages.shared.running.runtime import device, workers
from stages.shared.tables import Table


class Photos(Dataset[tuple[Tensor, int]]):
    """The images of a table, varied as the official code does it."""

    def __init__(self, table: Table, recipe: Recipe):
        self.table = table
        self.labels = table.rows["label"].tolist()
        self.transform = transforms.Compose(
            [
                transforms.Resize((recipe.resize, recipe.resize)),
                transforms.RandomCrop(recipe.resolution, padding=8),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, DEVIATION),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.transform(self.table.image(row)), self.labels[row]


class PlainClassifier:
    """Each call of `train` is an epoch; workers stay from one to the next."""

    def __init__(self, recipe: Recipe, table: Table, classes: int):
        count = workers(recipe.resize)
        self.loader = DataLoader(
            Photos(table, recipe),
            recipe.batch,
            shuffle=True,
            num_workers=count,
            persistent_workers=count > 0,
        )
        self.network = build(recipe, classes).to(device()).train()
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4
        )
        self.criterion = nn.CrossEntropyLoss(label_smoothing=0.1)

        on_gpu = device().type == "cuda"
        self.autocast = torch.autocast(device().type, torch.float16, enabled=on_gpu)
        self.scaler = torch.amp.GradScaler(device().type, enabled=on_gpu)

    def train(self) -> float:
        """An epoch; the sum of its losses."""
        return sum(self.take_step(images, labels) for images, labels in self.loader)

    def take_step(self, images: Tensor, labels: Tensor) -> float:
        self.optimizer.zero_grad()
        with self.autocast:
            outputs = self.network(images.to(device()))
            loss = self.criterion(outputs, labels.to(device()))

        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.item()


def build(recipe: Recipe, classes: int) -> nn.Module:
    """torchvision's network, with random weights."""
    size = {"image_size": recipe.resolution} if recipe.architecture == "vit_b_16" else {}
    network = get_model(recipe.architecture, weights=None, **size)
    replace_head(network, classes)
    return network
