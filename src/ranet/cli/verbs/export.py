"""ranet export: a trained network and its policies as a folder that runs without PyTorch."""

from __future__ import annotations

from omegaconf import DictConfig

from ranet.cli.inputs.network_alone import load_network_alone
from ranet.cli.options.shared import read_policies
from ranet.inference.exported.export import Export, export_engine
from ranet.inference.exported.folder import stage_name
from ranet.inference.stages.fused_stages import used_exits
from ranet.support.console import new_console, print_sheets, say
from ranet.support.progress import Bar
from ranet.support.sheet import Column, Sheet


def run(config: DictConfig) -> None:
    """Export, as the configuration says."""
    policies = read_policies(config.policy)
    alone = load_network_alone(config)
    with Bar("Exporting stages") as shown:
        written = export_engine(
            alone.trained.network,
            policies,
            config.output,
            all_exits=config.all_exits,
            preprocessing=alone.preprocessing.to_dict(),
            classes=alone.classes,
            data=alone.data,
            progress=shown,
        )
    console = new_console()
    print_sheets(console, _sheet(written))
    say(console, *_sentences(written))


def _sheet(written: Export) -> Sheet:
    """Return the files of the graphs, and where they answer."""
    rows = [
        {
            "file": file.file,
            "graph": stage_name(file.stage),
            "answers at": f"exit {file.stage.last + 1}",
            "kB": file.bytes / 1e3,
        }
        for file in written.folder.manifest.stages
    ]
    columns = [*(Column(heading, left=True) for heading in ("file", "graph", "answers at")), Column("kB", form=",.0f")]
    return Sheet("Exported stages", rows, columns)


def _sentences(written: Export) -> list[str]:
    """Return sentences about everything that is not in the table."""
    folder = written.folder
    sentences = [
        f"{name} uses {_exits(used_exits(policy))} of {folder.facts.num_exits}."
        for name, policy in zip(folder.manifest.policies, folder.policies, strict=True)
    ]
    if written.difference is None:
        sentences.append(
            "Nothing was compared with the network, because ONNX Runtime is not installed: "
            'pip install "ranet[onnx]" and export again.'
        )
    else:
        sentences.append(
            f"In ONNX Runtime the logits of every stage are the network's to {written.difference:.1e} of the largest."
        )
    if folder.classes is None:
        sentences.append("The names of the classes are not known here; answers will be their numbers.")
    sentences.append(f"Written to {folder.path}: ranet predict engine={folder.path} images=...")
    return sentences


def _exits(exits: list[int]) -> str:
    numbers = [str(k + 1) for k in exits]
    return f"exit {numbers[0]} alone" if len(numbers) == 1 else f"exits {', '.join(numbers)}"
