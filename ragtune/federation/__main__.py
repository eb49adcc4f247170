"""`python -m ragtune.federation`: prepare a base model, or check a site before it joins."""

import argparse
import sys

from ragtune.errors import RagtuneError
from ragtune.progress import say


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 if it went well, 1 after an error, told in one line."""
    parser = argparse.ArgumentParser(prog="python -m ragtune.federation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("base", help="write the base model that server and sites begin with")
    for part in ("question-encoder", "passage-encoder", "generator"):
        making.add_argument(f"--{part}", required=True, help="a folder, or a name on the hub")
    making.add_argument("--output", required=True, help="folder for the model")
    checking = commands.add_parser("check", help="check a site, and its way to the server")
    checking.add_argument("site", help="the site's TOML, --node-config of its SuperNode")
    checking.add_argument("--superlink", required=True, help="HOST:PORT")
    checking.add_argument("--root-certificates", required=True, help="PEM file of the server's authority")
    given = parser.parse_args(arguments)
    try:
        if given.command == "base":
            from ragtune.models.checkpoint import save_model
            from ragtune.models.rag import RagConfig, RagModel

            parts = (given.question_encoder, given.passage_encoder, given.generator)
            save_model(RagModel.from_parts(*parts, RagConfig()), given.output)
            say(f"base model: {given.output}; give this same folder to the server and every site")
        else:
            from ragtune.federation.preflight import check_server, check_site

            check_server(given.superlink, given.root_certificates)
            site = check_site(given.site)
            say(f"site {site.name}: data, knowledge base, model, server and certificate are in order")
    except RagtuneError as error:
        say(f"ragtune.federation: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
