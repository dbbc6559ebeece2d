"""The published networks written once more from PyTorch's functions, over a dict of arrays.

They read keys by their published names and arrays in PyTorch's layout, so that a wrong name or
layout in a linen module cannot cancel out.
"""

import torch
import torch.nn.functional as F


def normalise(state, name, x, eps):
  """Batch norm of inference."""
  return F.batch_norm(x, state[f"{name}.running_mean"], state[f"{name}.running_var"],
                      state[f"{name}.weight"], state[f"{name}.bias"], eps=eps)


def inception(state, x):
  """FID's InceptionV3, pooled features."""

  def conv(name, x, stride=1, padding=0):
    x = F.conv2d(x, state[f"{name}.conv.weight"], stride=stride, padding=padding)
    return F.relu(normalise(state, f"{name}.bn", x, 1e-3))

  def average(x):
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)

  def block(name):
    return lambda branch, x, stride=1, padding=0: conv(f"{name}.{branch}", x, stride, padding)

  x = conv("Conv2d_2a_3x3", conv("Conv2d_1a_3x3", x, 2))
  x = F.max_pool2d(conv("Conv2d_2b_3x3", x, padding=1), 3, 2)
  x = F.max_pool2d(conv("Conv2d_4a_3x3", conv("Conv2d_3b_1x1", x)), 3, 2)
  for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
    c = block(name)
    double = c("branch3x3dbl_2", c("branch3x3dbl_1", x), padding=1)
    x = torch.cat([c("branch1x1", x), c("branch5x5_2", c("branch5x5_1", x), padding=2),
                   c("branch3x3dbl_3", double, padding=1), c("branch_pool", average(x))], 1)
  c = block("Mixed_6a")
  double = c("branch3x3dbl_2", c("branch3x3dbl_1", x), padding=1)
  x = torch.cat([c("branch3x3", x, 2), c("branch3x3dbl_3", double, 2), F.max_pool2d(x, 3, 2)], 1)
  row, column = (0, 3), (3, 0)
  for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
    c = block(name)
    seven = c("branch7x7_3", c("branch7x7_2", c("branch7x7_1", x), 1, row), 1, column)
    double = c("branch7x7dbl_1", x)
    for index, padding in ((2, column), (3, row), (4, column), (5, row)):
      double = c(f"branch7x7dbl_{index}", double, 1, padding)
    x = torch.cat([c("branch1x1", x), seven, double, c("branch_pool", average(x))], 1)
  c = block("Mixed_7a")
  seven = c("branch7x7x3_3", c("branch7x7x3_2", c("branch7x7x3_1", x), 1, row), 1, column)
  x = torch.cat([c("branch3x3_2", c("branch3x3_1", x), 2), c("branch7x7x3_4", seven, 2),
                 F.max_pool2d(x, 3, 2)], 1)
  for name in ("Mixed_7b", "Mixed_7c"):
    c = block(name)
    three = c("branch3x3_1", x)
    double = c("branch3x3dbl_2", c("branch3x3dbl_1", x), padding=1)
    pooled = average(x) if name == "Mixed_7b" else F.max_pool2d(x, 3, 1, padding=1)
    x = torch.cat([
        c("branch1x1", x), c("branch3x3_2a", three, 1, (0, 1)), c("branch3x3_2b", three, 1, (1, 0)),
        c("branch3x3dbl_3a", double, 1, (0, 1)), c("branch3x3dbl_3b", double, 1, (1, 0)),
        c("branch_pool", pooled)], 1)
  return x.mean((2, 3))


def densenet(state, x):
  """torchxrayvision's DenseNet-121, pooled features."""

  def conv(name, x, **options):
    return F.conv2d(x, state[f"features.{name}.weight"], **options)

  def active(name, x):
    return F.relu(normalise(state, f"features.{name}", x, 1e-5))

  x = F.max_pool2d(active("norm0", conv("conv0", x, stride=2, padding=3)), 3, 2, padding=1)
  for b, layers in enumerate((6, 12, 24, 16), 1):
    for i in range(1, layers + 1):
      name = f"denseblock{b}.denselayer{i}"
      h = conv(f"{name}.conv1", active(f"{name}.norm1", x))
      x = torch.cat([x, conv(f"{name}.conv2", active(f"{name}.norm2", h), padding=1)], 1)
    if b < 4:
      x = F.avg_pool2d(conv(f"transition{b}.conv", active(f"transition{b}.norm", x)), 2, 2)
  return active("norm5", x).mean((2, 3))


def efficientnet_lite(state, x):
  """EfficientNet-Lite0, pooled features; TensorFlow's padding, more of it at the end."""

  def conv(name, x, stride=1, groups=1):
    weight = state[f"{name}.weight"]
    pads = []
    for side, kernel in ((x.shape[3], weight.shape[3]), (x.shape[2], weight.shape[2])):
      total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
      pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)

  def norm(name, x):
    return normalise(state, name, x, 1e-3)

  x = F.relu6(norm("_bn0", conv("_conv_stem", x, 2)))
  for i in range(16):
    b, h = f"_blocks.{i}", x
    if i > 0:
      h = F.relu6(norm(f"{b}._bn0", conv(f"{b}._expand_conv", h)))
    stride = 2 if i in (1, 3, 5, 11) else 1
    h = conv(f"{b}._depthwise_conv", h, stride, groups=h.shape[1])
    h = norm(f"{b}._bn2", conv(f"{b}._project_conv", F.relu6(norm(f"{b}._bn1", h))))
    x = x + h if i in (2, 4, 6, 7, 9, 10, 12, 13, 14) else h
  return F.relu6(norm("_bn1", conv("_conv_head", x))).mean((2, 3))


def dinov2(state, x):
  """transformers' Dinov2Model with 12 heads and patches of 14, class token."""

  def norm(name, x):
    return F.layer_norm(x, (768,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

  def linear(name, x):
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

  def heads(x):
    return x.unflatten(-1, (12, 64)).transpose(1, 2)

  name = "embeddings.patch_embeddings.projection"
  patches = F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=14)
  positions = state["embeddings.position_embeddings"]
  side = round((positions.shape[1] - 1) ** 0.5)
  grid = positions[:, 1:].transpose(1, 2).unflatten(-1, (side, side))
  grid = F.interpolate(grid, size=patches.shape[2:], mode="bicubic", align_corners=False)
  token = (state["embeddings.cls_token"] + positions[:, :1]).expand(len(x), -1, -1)
  x = torch.cat([token, (patches + grid).flatten(2).transpose(1, 2)], 1)
  layers = {int(key.split(".")[2]) for key in state if key.startswith("encoder.layer.")}
  for i in sorted(layers):
    b = f"encoder.layer.{i}"
    h = norm(f"{b}.norm1", x)
    query, key, value = (heads(linear(f"{b}.attention.attention.{part}", h))
                         for part in ("query", "key", "value"))
    h = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    x = x + state[f"{b}.layer_scale1.lambda1"] * linear(f"{b}.attention.output.dense", h)
    h = linear(f"{b}.mlp.fc2", F.gelu(linear(f"{b}.mlp.fc1", norm(f"{b}.norm2", x))))
    x = x + state[f"{b}.layer_scale2.lambda1"] * h
  return norm("layernorm", x)[:, 0]
