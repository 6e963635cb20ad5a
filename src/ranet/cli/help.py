"""What ``ranet VERB --help`` says: the verb's own options with their comments, and the groups to choose from."""

from __future__ import annotations

import re
from importlib.resources import files

from ranet.models.registry import list_families, list_networks


def verb_help(verb: str, usage: str) -> str:
    """Return the help of a verb, with what follows its name on the command line."""
    conf = files("ranet.conf")
    text = (conf / f"{verb}.yaml").read_text(encoding="utf-8")
    about, _, rest = text.partition("defaults:\n")
    defaults, options = re.split(r"\n\n", rest, maxsplit=1)
    options = options.partition("\nhydra:\n")[0]
    groups = [name for name in re.findall(r"^  - (\w+): ", defaults, flags=re.MULTILINE) if (conf / name).is_dir()]
    names = {group: _names(group) for group in groups}
    if "model" in names:
        names["model"] = [*names["model"], *list_networks(), *list_families()]
    if verb == "train":
        names["+experiment"] = _names("experiment")
    width = max((len(name) for name in names), default=0)
    listed = [f"  {name:<{width}}  {', '.join(choices)}" for name, choices in names.items()]
    parts = [
        f"usage: ranet {verb} {usage}",
        about.strip().replace("# ", "").replace(f"ranet {verb}: ", ""),
        options.strip(),
    ]
    if listed:
        how = "Groups: GROUP=NAME chooses all options of one, GROUP.OPTION=VALUE changes one."
        parts.append("\n".join([how, *listed]))
    parts.append(f"ranet {verb} --cfg job shows all options and their values; -m sweeps over lists such as OPTION=a,b.")
    return "\n\n".join(parts)


def _names(group: str) -> list[str]:
    folder = files("ranet.conf") / group
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
