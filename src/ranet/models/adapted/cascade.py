"""Several classifiers in a row as one network with an exit after each: the next one runs if the answer is unsure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ranet.errors import UserError, unknown_name
from ranet.models.adapted.single_exit import single_exit
from ranet.models.staged import StagedNetwork, State
from ranet.models.staged_checks import check_attributes

Combine = Literal["last", "mean"]


class Cascade(StagedNetwork):
    """A cascade: every member sees the image anew, and an image goes on to the next member if its answer is unsure.

    The exits are those of the members, one after the other; a classifier without early exit has one. Nothing is
    trained: the members are ready, and thresholds are solved as for any staged network.

    With combine="last" an exit answers what its member says. A member none of whose exits a policy uses is not run.
    With combine="mean" the answer has the mean of the probabilities of the members that have run, at their last exits
    so far: its logits are the logarithm of this mean, but for a constant. All members up to the exit run then; leave
    one out by making the cascade without it.

    The members read one image. Where their inputs differ (in size, or in normalisation), give each its ``rows`` of a
    taller image that holds all inputs one below the other, as `ranet.images.canvas.Canvas` makes it of one picture.

    Args:
        members: classifiers of the same classes, cheapest first: staged networks, or modules from images to logits,
            which become networks of one exit (`single_exit`).
        combine: "last" or "mean".
        weights: for "mean", a positive weight for each member; by default equal ones.
        rows: for each member the first row of its input in the image; by default all read the whole image.
        input_size: (C, H, W) of the images that members read which do not say it themselves.

    Raises:
        UserError: if there are no members, their classes or channels differ, or the other arguments do not fit them.

    Example:
        >>> from ranet.models import create_network
        >>> small, large = (create_network(name) for name in ("msdnet_tiny", "ranet_tiny"))
        >>> cascade = Cascade([small, large], combine="mean").eval()
        >>> cascade.num_exits == small.num_exits + large.num_exits
        True
        >>> cascade(torch.zeros(2, 3, 32, 32))[-1].exp().sum(dim=1).round().tolist()
        [2.0, 2.0]
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        combine: Combine = "last",
        weights: Sequence[float] | None = None,
        rows: Sequence[int] | None = None,
        input_size: tuple[int, int, int] | None = None,
    ) -> None:
        staged = _checked(members, input_size)
        if combine not in get_args(Combine):
            raise unknown_name("combine", str(combine), get_args(Combine))
        if weights is not None and combine != "mean":
            raise UserError("weights= are for combine='mean': with 'last' each member answers alone.")
        if combine == "mean" and not all(member.heads_can_be_skipped for member in staged):
            raise UserError("combine='mean' cannot have members whose exits build on each other: use combine='last'.")
        given = [1.0] * len(staged) if weights is None else list(weights)
        if len(given) != len(staged) or not all(0 < weight < math.inf for weight in given):
            raise UserError(f"weights={weights} must be a positive number for each of the {len(staged)} members.")
        shapes = [member.image_shape for member in staged]
        if rows is None and len(set(shapes)) > 1:
            raise UserError(
                f"The members read images of different shapes ({', '.join(map(str, shapes))}): give the rows of a "
                "canvas that holds all of them (ranet.images.canvas.Canvas)."
            )
        starts = [0] * len(staged) if rows is None else list(rows)
        height = max(start + shape[1] for start, shape in zip(starts, shapes, strict=True))
        super().__init__(staged[0].num_classes, (height, max(shape[2] for shape in shapes)), shapes[0][0])
        self.members = nn.ModuleList(staged)
        self.combine = combine
        self.weights = given
        self.rows = starts
        self.num_exits = sum(member.num_exits for member in staged)
        # Which member and which of its stages each stage is.
        self._places = [(m, j) for m, member in enumerate(staged) for j in range(member.num_exits)]
        # The first row that this or a later member reads; those above have done their work.
        self._tops = list(accumulate(reversed(starts), min))[::-1]

    @property
    def heads_can_be_skipped(self) -> bool:
        """Whether no exit builds on answers before it: with combine="last", unless members do so themselves."""
        return self.combine == "last" and all(self._member(m).heads_can_be_skipped for m in range(len(self.members)))

    def begins_at(self, first: int, last: int) -> int:
        """Return the first stage of the member of stage ``last``, if that is later and members answer alone."""
        return max(first, last - self._places[last][1]) if self.combine == "last" else first

    def stem(self, images: Tensor) -> State:
        """Return the images."""
        return (images,)

    def advance(self, k: int, state: State) -> State:
        """Run the member of stage k to its next exit; the first of its stages begins with the images."""
        m, stage = self._places[k]
        member, apart = self._member(m), self._apart(m)
        if stage:
            return (*state[:apart], *member.advance(stage, state[apart:]))
        images, before = state[0], state[1:]
        start, (_, height, width) = self.rows[m] - self._tops[m], member.image_shape
        whole = images.shape[2:] == (height, width)
        read = images if whole else images[:, :, start : start + height, :width]
        return (*self._rest(m, images), *before, *member.advance(0, member.stem(read)))

    def answer(self, k: int, state: State) -> Tensor:
        """Return the logits (B, C) of exit k: the member's, or the logarithm of the weighted sum of probabilities."""
        m, stage = self._places[k]
        apart = self._apart(m)
        logits = self._member(m).answer(stage, state[apart:])
        if self.combine == "last":
            return logits
        own = F.log_softmax(logits, dim=1) + math.log(self.weights[m])
        if m == 0:
            return own
        before = state[apart - 1]
        largest = torch.maximum(before, own)
        return largest + torch.log(torch.exp(before - largest) + torch.exp(own - largest))

    def carry(self, k: int, state: State, answer: Tensor) -> State:
        """Return the images for the next member, behind the last exit of one, with the answer so far for "mean"."""
        m, stage = self._places[k]
        member, apart = self._member(m), self._apart(m)
        if stage == member.num_exits - 1:
            return state[:1] if self.combine == "last" else (*state[:1], answer)
        return (*state[:apart], *member.carry(stage, state[apart:], answer))

    def run(self, first: int, last: int, state: State) -> tuple[State, Tensor]:
        """Run stages ``first`` to ``last`` as one; of members that answer alone, only the one of stage ``last``."""
        start = self.begins_at(first, last)
        if start > first:
            behind, reader = self._places[first][0], self._places[start][0]
            state = (state[0][:, :, self._tops[reader] - self._tops[behind + bool(self._places[first][1])] :],)
        return super().run(start, last, state)

    def _member(self, m: int) -> StagedNetwork:
        return cast(StagedNetwork, self.members[m])

    def _apart(self, m: int) -> int:
        """How many tensors of the state at an exit of member m are not the member's: images, and the answer before."""
        return int(m < len(self.members) - 1) + int(self.combine == "mean" and m > 0)

    def _rest(self, m: int, images: Tensor) -> State:
        """The images for the members behind member m."""
        if m == len(self.members) - 1:
            return ()
        done = self._tops[m + 1] - self._tops[m]
        return (images[:, :, done:] if done else images,)


def _checked(members: Sequence[nn.Module], input_size: tuple[int, int, int] | None) -> list[StagedNetwork]:
    """Return the members as staged networks, which go together."""
    if not isinstance(members, Sequence | nn.ModuleList) or not len(members):
        raise UserError("A cascade has one or more members: give a list of networks.")
    staged = [each if isinstance(each, StagedNetwork) else single_exit(each, input_size) for each in members]
    for member in staged:
        check_attributes(member)
        if member.optional_parts:
            raise UserError(f"{type(member).__name__} skips parts inside, which members of a cascade cannot do yet.")
    classes = [member.num_classes for member in staged]
    channels = [member.image_shape[0] for member in staged]
    for what, counts in (("classes", classes), ("channels of images", channels)):
        if len(set(counts)) > 1:
            raise UserError(f"The members of a cascade must have the same {what}, not {', '.join(map(str, counts))}.")
    return staged
