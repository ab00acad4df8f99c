"""What the verb explain does; as in the other commands.py, a command returns its exit code, or None for 0."""

from ..commands import open_model, print_json, refuse
from ..config import QuantConfig
from ..engine import Engine
from . import explain as explaining
from .steps import as_text
from .worked import as_json

QUANT_OPTIONS = ("weight_bits", "threshold", "scale", "act_bits", "act_quantizer")
MODEL_OPTIONS = ("name", "img_size", "seed", "threads", "backend")


def explain(args):
    """One output, step by step."""
    place = explaining.Place(args.layer, args.row, args.token, args.picture)
    chosen = {name: value for name in QUANT_OPTIONS if (value := getattr(args, name)) is not None}
    if args.model is None:
        refuse(args, "without a model", MODEL_OPTIONS)
        worked, source = explaining.of_numbers(args.weights, args.input, args.bias, place, QuantConfig(**chosen))
    else:
        refuse(args, "with a model", ("weights", "input", "bias"))
        quant = QuantConfig(**chosen)
        model = open_model(args)
        if isinstance(model, Engine):
            refuse(args, "with a packed file", QUANT_OPTIONS)
        worked, source = explaining.of_model(model, place, quant)
    if args.json:
        return print_json(as_json(worked, source))
    print("\n".join(as_text(worked, headline(worked, source))))


def headline(worked, source):
    """What is explained, in a line."""
    sizes = f"K = {len(worked.weights.codes)} inputs, W{worked.weights.bits}A{worked.activations.bits}"
    if source["model"] is None:
        return f"One row of weights w and one vector of activations x: {sizes}"
    picture = source["picture"] or "a drawing (no PICTURE was given)"
    return f"{source['model']}: {source['layer']}, row {source['row']}, token {source['token']}: {sizes}; {picture}"
