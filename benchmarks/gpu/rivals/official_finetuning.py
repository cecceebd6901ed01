"""Fine-tuning as the official code does it: train_lora.py of Zhicaiwww/Diff-Mix at a81337b.

Its autoencoder encodes each batch anew, the text encoder's whole table of embeddings has gradients
and is put back after each step, the loss is read at each step, and AdamW is not fused.
"""

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor, nn

from benchmarks.gpu import models
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.rivals import stock
from stages.finetune import add_lora
from stages.shared.diffusion.text import tokenize
from stages.shared.prompts import class_prompts
from stages.shared.running.runtime import device


class OfficialLearner:
    """The official code's training, in its mixed precision: fp16 on a GPU."""

    def __init__(self, bench: Bench, pixels: Tensor):
        """pixels: pictures in [-1, 1], (n, 3, h, w), on the CPU."""
        self.sizes = bench.sizes
        self.pixels = pixels
        self.pipeline = stock.load_pipeline(models.base(bench))
        self.scheduler = DDPMScheduler.from_config(self.pipeline.scheduler.config)
        self.prepare_text(bench)

        params = models.finetune_params(bench.sizes)
        self.residues = add_lora(self.frozen_unet(), params.lora_rank)
        self.optimizer = torch.optim.AdamW(
            [*self.residues, self.embeddings.weight],
            lr=params.learning_rate,
            weight_decay=params.weight_decay,
        )
        on_gpu = device().type == "cuda"
        self.autocast = torch.autocast(device().type, torch.float16, enabled=on_gpu)
        self.scaler = torch.amp.GradScaler(device().type, enabled=on_gpu)

    def frozen_unet(self) -> nn.Module:
        self.pipeline.vae.requires_grad_(False)
        return self.pipeline.unet.requires_grad_(False)

    def prepare_text(self, bench: Bench) -> None:
        """A token for each class; the encoder is in fp32, and only its table learns."""
        classes = bench.classes()
        tokenizer = self.pipeline.tokenizer
        encoder = self.pipeline.text_encoder.float()

        tokenizer.add_tokens(classes["token"].tolist())
        encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        self.embeddings = encoder.requires_grad_(False).get_input_embeddings().requires_grad_(True)

        self.original = self.embeddings.weight.detach().clone()
        self.old = torch.ones(len(tokenizer), dtype=torch.bool)
        self.old[-len(classes) :] = False
        self.ids = tokenize(self.pipeline, class_prompts(classes, "ti+db"))[:, 0]

    def take_steps(self) -> list[float]:
        """A round of steps; their losses."""
        return [self.take_step() for _ in range(self.sizes.finetune_steps)]

    def take_step(self) -> float:
        size = self.sizes.finetune_batch
        pixels = self.pixels[torch.randint(len(self.pixels), (size,))]
        ids = self.ids[torch.randint(len(self.ids), (size,))]

        with self.autocast:
            loss = self.loss(pixels.to(device()), ids.to(device()))
        value = loss.item()

        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.residues, 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()

        with torch.no_grad():
            self.embeddings.weight[self.old] = self.original[self.old]
        return value

    def loss(self, pixels: Tensor, ids: Tensor) -> Tensor:
        vae = self.pipeline.vae
        latents = vae.encode(pixels.to(vae.dtype)).latent_dist.sample() * vae.config.scaling_factor

        noise = torch.randn_like(latents)
        count = self.scheduler.config.num_train_timesteps
        times = torch.randint(count, (len(latents),), device=latents.device)
        noisy = self.scheduler.add_noise(latents, noise, times)

        text = self.pipeline.text_encoder(ids)[0].to(latents.dtype)
        predicted = self.pipeline.unet(noisy, times, text).sample
        return F.mse_loss(predicted.float(), noise.float())
