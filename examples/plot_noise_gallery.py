"""
What does a net see under each noise?
=====================================

All noises here have the same sigma, 0.25 where white is 1, and spread it differently.
Uniform noise changes nearly every pixel, Pareto noise leaves most of them nearly as they
were and a few beyond recognition, and splitting noise adds nothing: it shows in which part
of the range a pixel lies. Noise whose density depends on a norm looks like the independent
noise of that norm, since its length hardly varies in so many coordinates: cubes (ExpInf,
PowInf) like Uniform noise, spheres (Exp2, Pow2) like Gaussian, cross-polytopes (Exp1) like
Laplace.

They differ too in what they prove. A radius follows from the shape of the noise and from
the probability of the top class alone, here 0.99, and each shape has its norms: above an
image stands the radius in the norm that the noise was made for, and the table has all
three. A radius in another norm than the direct ones is converted from these.

Which noise leaves a net the most votes no picture can show: only training tells.
"""

# %%
# A photograph of 96x96 pixels. Its bytes, divided by 255, lie on the grid that
# deterministic splitting asks for.
import argparse
import math
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_sample_image

from rs4a.noises import (
    Exp1,
    Exp2,
    ExpInf,
    Expp,
    Gaussian,
    Laplace,
    Pareto,
    Pow2,
    PowInf,
    Splitting,
    Uniform,
    UniformBall,
)  # fmt: skip
from rs4a.utils.rounding import format_radius

parser = argparse.ArgumentParser(description="Show an image under every noise.")
parser.add_argument("--figure", default="noise_gallery.png", help="where to save it")
args, _ = parser.parse_known_args()

SIGMA, PROBABILITY = 0.25, 0.99
photo = load_sample_image("flower.jpg")[60:348:3, 180:468:3].astype(np.float32) / 255
image = torch.from_numpy(photo)[np.newaxis]
dim = photo.size

# %%
# A row of the figure each: cubes, spheres, and tails that are heavier.
noises = [
    Uniform(), ExpInf(k=1), PowInf(a=2 * dim), Expp(p=4),
    Gaussian(), UniformBall(), Exp2(k=2), Pow2(k=2, a=dim), Splitting(seed=0),
    Laplace(), Exp1(k=1), Expp(p=0.5), Pareto(a=3), Splitting(deterministic=False),
]  # fmt: skip
NORMS = {"l1": 1.0, "l2": 2.0, "linf": math.inf}
names = {norm: name for name, norm in NORMS.items()}

views, rows = [photo], {}
for noise in noises:
    title = str(noise)
    noise.set_params(sigma=SIGMA)
    views.append(noise.sample(image, torch.Generator().manual_seed(0))[0].numpy())
    rows[title] = {
        "direct": ", ".join(names[norm] for norm in noise.norms),
        "changed by": np.sqrt(np.mean((views[-1] - photo) ** 2)),
    } | {
        name: float(noise.radius(PROBABILITY, norm=norm, dim=dim))
        for name, norm in NORMS.items()
    }

# %%
# How far a pixel was changed, in the root mean square: by sigma, up to chance. For
# splitting noise sigma is that of uniform noise with the same radii; its views are nearer
# to the image.
table = pd.DataFrame.from_dict(rows, orient="index")
DIGITS = {"l1": 4, "l2": 4, "linf": 6}
formats = {name: partial(format_radius, digits=digits) for name, digits in DIGITS.items()}
print(f"Certified radius at probability {PROBABILITY}, sigma {SIGMA}, {dim} coordinates\n")
print(table.to_string(formatters={"changed by": "{:.3f}".format, **formats}))

# %%
# What is darker than black or brighter than white is drawn as black or white.
figure, axes = plt.subplots(3, 5, figsize=(10, 6.9), layout="constrained")
titles = ["the photograph, without noise"]
for noise, title in zip(noises, rows, strict=True):
    name = names[noise.norms[0]]
    titles.append(f"{title}\n{name} {formats[name](rows[title][name])}")
for ax, view, title in zip(axes.flat, views, titles, strict=True):
    ax.imshow(view.clip(0, 1))
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=9)
figure.suptitle(f"Noise of sigma {SIGMA}, and its radius at probability {PROBABILITY}")
figure.savefig(args.figure, dpi=110)
