"""State dicts from torchvision's names and from files, without running foreign code."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from pipeline.errors import InputError
from pipeline.models.vision import ResNet18_Weights

State = dict[str, Tensor]

SUFFIXES = (".safetensors", ".pt", ".pth")


def named_weights() -> tuple[str, ...]:
    """The names that torchvision knows for ResNet-18."""
    return tuple(member.name for member in ResNet18_Weights)


def cached_weights_file(name: str) -> Path | None:
    """The file of torchvision's weights in torch's own cache, if it is there."""
    url = ResNet18_Weights[name].url
    file = Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(url)  # noqa: PTH119
    return file if file.is_file() else None


def load_state(weights: str, field: str, content: bytes | None = None) -> State:
    """A state dict in float32, on the CPU.

    Args:
        weights: torchvision's name, which may be downloaded once, since it was asked for by
            name; or a local .safetensors, .pt or .pth file.
        field: the setting that named it, for errors.
        content: of the file, where it is not a local one.

    Raises:
        InputError: no such file or name, a damaged file, a pickle that would run code.
    """
    if weights in named_weights():
        state = _named_state(weights, field)
    else:
        state = _file_state(weights, field, content)
    return {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }


def _named_state(name: str, field: str) -> State:
    try:
        return dict(ResNet18_Weights[name].get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{field}: {name}: not in torch's cache ({torch.hub.get_dir()}), and the download "
            f"failed ({error}); give a .safetensors, .pt or .pth file instead"
        ) from None


def _file_state(weights: str, field: str, content: bytes | None) -> State:
    # As the records beside the file are looked for; Path's own raises where there is no such user.
    file = Path(os.path.expanduser(weights))  # noqa: PTH111
    if file.suffix not in SUFFIXES:
        raise InputError(
            f"{field}: {weights}: neither torchvision's ({', '.join(named_weights())}) "
            f"nor a file ending in {', '.join(SUFFIXES)}"
        )
    if content is None:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise InputError(f"{field}: {weights}: can't be read: {error.strerror}") from None
    if file.suffix == ".safetensors":
        return state_from_bytes(content, f"{field}: {weights}")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        first = str(error).splitlines()[0]
        raise InputError(
            f"{field}: {weights}: is not a plain state dict, and loading it could run code: "
            f"{first}; save its state_dict() instead"
        ) from None
    except Exception as error:  # noqa: BLE001 - hostile bytes raise anything
        kind = type(error).__name__
        raise InputError(f"{field}: {weights}: is no state dict: {kind}: {error}") from None
    return _checked(state, f"{field}: {weights}")


def _checked(state: object, what: str) -> State:
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{what}: holds no state dict (a mapping of names to tensors)")
    return dict(state)


def state_from_bytes(content: bytes, what: str) -> State:
    """A state dict from safetensors.

    Raises:
        InputError: the bytes are damaged.
    """
    try:
        return dict(load_safetensors(content))
    except SafetensorError as error:
        raise InputError(f"{what}: is damaged: {error}") from None


def state_to_bytes(state: Mapping[str, Tensor]) -> bytes:
    """A state dict as safetensors, names sorted, so that equal states have equal bytes."""
    content: bytes = save_safetensors({name: state[name].contiguous() for name in sorted(state)})
    return content


def fill(
    module: nn.Module, state: Mapping[str, Tensor], unused: Collection[str], what: str
) -> None:
    """Loads weights into a network; only layers that are not used may be absent.

    Args:
        module: the network.
        state: its weights; entries of unused layers are ignored.
        unused: prefixes of layers whose output nobody reads.
        what: the setting and file, for errors.

    Raises:
        InputError: a used layer has no weights, or weights of another shape, or there are
            weights that the network doesn't have.
    """
    wanted = {
        name: value
        for name, value in module.state_dict().items()
        if not name.endswith("num_batches_tracked") and not name.startswith(tuple(unused))
    }
    missing = [name for name in wanted if name not in state]
    if missing:
        raise InputError(
            f"{what}: lacks {len(missing)} of {len(wanted)} tensors that are used, "
            f"such as {missing[0]}"
        )
    for name, value in wanted.items():
        if state[name].shape != value.shape:
            raise InputError(
                f"{what}: {name} has the shape {tuple(state[name].shape)}, "
                f"where ResNet-18 has {tuple(value.shape)}"
            )
        if not torch.isfinite(state[name]).all():
            raise InputError(f"{what}: {name} holds values that are not finite (NaN or infinity)")
    foreign = [
        name for name in state if name not in module.state_dict() and not _ignored(name, unused)
    ]
    if foreign:
        raise InputError(
            f"{what}: has {foreign[0]}, which ResNet-18 doesn't have; is it another network?"
        )
    module.load_state_dict({name: state[name] for name in wanted}, strict=False)


def _ignored(name: str, unused: Collection[str]) -> bool:
    return name.startswith(tuple(unused))


def used_part(state: Mapping[str, Tensor], unused: Collection[str]) -> State:
    """The weights without those of unused layers and without training's counters."""
    return {
        name: value
        for name, value in state.items()
        if not name.startswith(tuple(unused)) and not name.endswith("num_batches_tracked")
    }
