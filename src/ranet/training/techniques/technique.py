"""The choice of training techniques, and the check that they are compatible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from ranet.errors import UserError, require_known, unknown_name
from ranet.models.adapted.features import with_added_exits
from ranet.models.collaboration import InlineCollaboration
from ranet.models.staged import StagedNetwork, with_linear_heads
from ranet.support.numbers import require_count
from ranet.training.techniques.distillation import check_distillation
from ranet.training.techniques.gradient_equilibrium import Equilibrium
from ranet.training.techniques.teachers import FirstStage, LastExit, Teacher, load_teacher

LAST_EXIT, FIRST_STAGE = "last_exit", "first_stage"


@dataclass(frozen=True)
class Technique:
    """A choice of Gradient Equilibrium, Inline Subnetwork Collaboration and one-for-all distillation.

    Args:
        name: name for tables and figures.
        equilibrium: "all", "coarsest" or "off" (``forward_in_stages``).
        collaboration: whether the exits collaborate (``InlineCollaboration``).
        detach: whether to prevent that the losses of later exits train earlier heads through their logits.
        teacher: None for no distillation; "last_exit", the network's own; "first_stage", the last exit of the first of
            two stages; a run folder, a checkpoint or "torchvision/NAME" (``load_teacher``).
        teacher_weights: file or published name of a torchvision classifier's weights.
        temperature: temperature of the softmax of teacher and exits (``distillation_loss``).
        gamma: share of the teacher in an exit's loss.
        teach_last: whether the last exit also learns from the teacher.
        survivors: whether an image counts more at the exits that it is likely to reach (``survivor_weights``).
        backbone: of a network with added exits, "trained" with its heads from the start; "frozen", so that only the
            heads are trained; or "frozen_first", frozen for the first of two stages and trained in the second.
        feature_copies: how many versions of each training image heads on a frozen backbone see: the image itself, and
            augmented ones.
        stages: 1, or 2: the first trains the network without collaboration and distillation; the second freezes its
            backbone and trains new linear layers and the links between them.
        first_stage_share: share of the epochs for the first of two stages.
        first_stage_run: a finished run to use as the first stage; the second then has all epochs.

    Raises:
        UserError: if a value is invalid, or the choices exclude each other.
    """

    name: str
    equilibrium: str | bool | None = "off"
    collaboration: bool = False
    detach: bool = True
    teacher: str | None = None
    teacher_weights: str | None = None
    temperature: float = 3.0
    gamma: float = 0.3
    teach_last: bool = False
    survivors: bool = False
    backbone: str = "trained"
    feature_copies: int = 1
    stages: int = 1
    first_stage_share: float = 0.5
    first_stage_run: str | None = None

    def __post_init__(self) -> None:
        for switch in ("collaboration", "detach", "teach_last", "survivors"):
            if not isinstance(getattr(self, switch), bool):
                raise UserError(f"technique.{switch}={getattr(self, switch)} must be true or false.")
        if self.equilibrium not in ("all", "coarsest", "off", None, False):  # YAML reads a bare off as false
            raise unknown_name("technique.equilibrium", str(self.equilibrium), ["all", "coarsest", "off"])
        if self.teacher is not None:
            check_distillation(self.temperature, self.gamma)
        elif self.teacher_weights is not None or self.teach_last:
            raise UserError("teacher_weights and teach_last need a technique.teacher.")
        if self.teach_last and self.teacher == LAST_EXIT:
            raise UserError("The last exit cannot teach itself; remove teach_last, or choose another teacher.")
        self._check_stages()
        self._check_backbone()

    def _check_backbone(self) -> None:
        require_known("technique.backbone", self.backbone, ["trained", "frozen", "frozen_first"])
        require_count("technique.feature_copies", self.feature_copies)
        if self.backbone == "trained":
            if self.feature_copies != 1:
                raise UserError("feature_copies is for heads on a frozen backbone; use technique=heads or mixed.")
            return
        if self.stages == 2:
            raise UserError("stages=2 freezes the backbone in its second stage; remove technique.backbone.")
        if self.gradient_equilibrium and self.backbone == "frozen":
            raise UserError("Equilibrium is about gradients in the backbone, which is frozen; remove it.")
        if self.teacher not in (None, LAST_EXIT):
            raise UserError("Heads on a frozen backbone see no images to show to a teacher; use teacher=last_exit.")

    def _check_stages(self) -> None:
        if self.stages not in (1, 2):
            raise UserError(f"technique.stages={self.stages} must be 1 or 2.")
        if self.stages == 1:
            if self.teacher == FIRST_STAGE:
                raise UserError("teacher=first_stage needs two stages; use technique.stages=2 or teacher=last_exit.")
            if self.first_stage_run is not None and not self.in_two_stages:
                raise UserError("first_stage_run needs two stages; use technique=imta_two_stage or mixed.")
            if self.in_two_stages:
                self._check_share()
            return
        if not self.collaboration and self.teacher is None:
            raise UserError(
                "A second stage needs collaboration or a teacher, or it would learn the same as the first; use "
                "technique.stages=1, technique.collaboration=true or technique.teacher=first_stage."
            )
        if self.teacher == LAST_EXIT:
            raise UserError(
                "teacher=last_exit excludes two stages: the second has new linear layers, also at the last exit; use "
                "technique.teacher=first_stage."
            )
        self._check_share()

    def _check_share(self) -> None:
        if not 0 < self.first_stage_share < 1:
            raise UserError(f"technique.first_stage_share={self.first_stage_share} must be between 0 and 1.")

    @property
    def in_two_stages(self) -> bool:
        """Whether training has two stages."""
        return self.stages == 2 or self.backbone == "frozen_first"

    @property
    def gradient_equilibrium(self) -> Equilibrium | None:
        """The equilibrium as an argument of ``forward_in_stages``."""
        if self.equilibrium == "all":
            return "all"
        return "coarsest" if self.equilibrium == "coarsest" else None

    def first_stage(self) -> Technique:
        """Return the technique of the first of two stages: heads alone, or only the equilibrium."""
        if self.backbone == "frozen_first":
            return replace(self, name=f"{self.name}_first", backbone="frozen", equilibrium="off", first_stage_run=None)
        return Technique(f"{self.name}_first", equilibrium=self.equilibrium)

    def last_stage(self) -> Technique:
        """Return the technique of the last stage, with the name of the whole."""
        if self.backbone == "frozen_first":
            return replace(self, backbone="trained", feature_copies=1, first_stage_run=None)
        return self

    def trained_alone(self, network: StagedNetwork, new: Sequence[str]) -> list[nn.Module] | None:
        """Return the modules of a network to train in its last stage; None for all.

        Args:
            network: as it is trained.
            new: paths of last layers of the backbone with new weights.
        """
        if self.stages == 2:
            return with_linear_heads(network).after_features()
        if self.backbone == "trained":
            return None
        links = [network.links] if isinstance(network, InlineCollaboration) else []
        return [with_added_exits(network).heads, *links, *map(network.get_submodule, new)]

    def check_network(self, network: StagedNetwork) -> None:
        """Refuse techniques between exits for a network with one exit.

        Raises:
            UserError: if the network has one exit and a technique needs more, or no backbone to freeze.
        """
        if self.backbone != "trained":
            with_added_exits(network)
        if network.num_exits < 2 and (self.gradient_equilibrium or self.collaboration or self.teacher):
            raise UserError("Equilibrium, collaboration and distillation need several exits; this network has one.")

    def make_teacher(self, network: StagedNetwork) -> Teacher | None:
        """Return the teacher of a network, which for ``first_stage`` must still have the first stage's linear layers.

        Raises:
            UserError: if the teacher cannot be loaded, or has other classes.
        """
        if self.teacher is None:
            return None
        if self.teacher == LAST_EXIT:
            return LastExit()
        if self.teacher == FIRST_STAGE:
            return FirstStage(network)
        return load_teacher(self.teacher, network.num_classes, network.image_shape, self.teacher_weights)

    def second_stage(self, network: StagedNetwork) -> tuple[StagedNetwork, Teacher | None]:
        """Return the network of the second stage and its teacher, from the network of the first.

        After a first stage of the whole network it has new linear layers; after one of the heads it is the same.

        Raises:
            UserError: if the teacher cannot be loaded, or the network already collaborates.
        """
        teacher = self.make_teacher(network)  # before its last linear layer is reset
        if self.stages == 1:
            return network, teacher
        for readout in with_linear_heads(network).readouts:
            readout.reset_parameters()
            nn.init.zeros_(readout.bias)
        return (InlineCollaboration(network, self.detach) if self.collaboration else network), teacher
