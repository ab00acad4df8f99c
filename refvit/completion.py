"""A script that teaches a shell to complete refvit's command line, written from the parser itself."""

from . import backend
from .box import boxed_names
from .registry import MODELS

SHELLS = ("bash", "zsh")
ZSH = "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n"  # zsh runs bash's completions

SCRIPT = """\
# completion of refvit; once: source <(refvit completion {shell})
_refvit() {{
    local IFS=$'\\n' current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words="" options=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W {verbs} -- "$current"))
        return
    fi
    case "${{COMP_WORDS[1]}} $before" in
{choices}
    esac
    if [ -n "$words" ]; then
        COMPREPLY=($(compgen -W "$words" -- "$current"))
        return
    fi
    case "${{COMP_WORDS[1]}}" in
{options}
    esac
    case "$current" in -*) words="$options";; esac
    COMPREPLY=($(compgen -W "$words" -- "$current") $(compgen -f -- "$current"))
}}
complete -o filenames -F _refvit refvit
"""


def script(parser, shell):
    """The script's text.  parser: with ``verbs``, dict: name -> its parser; shell: one of SHELLS"""
    choices, options = [], []
    for verb, its in parser.verbs.items():
        names = []
        for action in its._actions:
            words = backend.backends() if action.dest == "backend" else action.choices
            if words and action.option_strings:
                cases = "|".join(f'"{verb} {option}"' for option in action.option_strings)
                choices.append(f"        {cases}) words={lines(map(str, words))};;")
            elif action.choices:
                names += action.choices
            elif action.dest == "model":
                names += [*boxed_names(), *MODELS]
        long = [option for action in its._actions for option in action.option_strings if option.startswith("--")]
        options.append(f"        {verb}) words={lines(names)} options={lines(long)};;")
    text = SCRIPT.format(
        shell=shell, verbs=lines(parser.verbs), choices="\n".join(choices), options="\n".join(options)
    )  # fmt: skip
    return (ZSH if shell == "zsh" else "") + text


def lines(words):
    """Words, one a line, as the shells quote them."""
    return "$'" + "\\n".join(words) + "'"
