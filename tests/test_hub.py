import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ragtune.errors import ModelError
from ragtune.hub import check_positions, generator_config, load_prompt, load_tokenizer, read_json, split_revision

ROOT = Path(__file__).parents[1]
ENCODER = ROOT / "ragtune" / "sample" / "base" / "encoder"


def test_a_revision_stands_behind_an_at_unless_a_folder_is_named_so(tmp_path):
    assert split_revision("owner/name@refs/pr/3") == ("owner/name", "refs/pr/3")
    assert split_revision("owner/name") == ("owner/name", None)
    (tmp_path / "run@night").mkdir()
    assert split_revision(tmp_path / "run@night") == (str(tmp_path / "run@night"), None)


def test_a_sentence_transformers_folder_has_its_tokenizer_where_modules_json_says(tmp_path):
    shutil.copytree(ENCODER, tmp_path / "0_Transformer", ignore=shutil.ignore_patterns("modules.json"))
    (tmp_path / "modules.json").write_text(json.dumps([{"path": "0_Transformer", "type": "x.Transformer"}]))
    (tmp_path / "0_Transformer" / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    prompts = '{"prompts": {"query": "query: ", "passage": "passage: "}}'
    (tmp_path / "config_sentence_transformers.json").write_text(prompts)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer("Norway").input_ids == load_tokenizer(ENCODER)("norway").input_ids
    assert (load_prompt(tmp_path, "question"), load_prompt(tmp_path, "passage")) == ("query: ", "passage: ")


def test_a_real_sentence_transformers_folder_is_loaded(minilm):
    tokenizer = load_tokenizer(minilm)
    assert tokenizer.decode(tokenizer("Who?").input_ids) == "[CLS] who? [SEP]"
    assert load_prompt(minilm, "question") == ""


@pytest.mark.parametrize("folder", ["absent", "empty"])
def test_a_folder_without_tokenizer_is_an_error(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=f"{folder}: (its tokenizer cannot be loaded|there is no such folder)"):
        load_tokenizer(tmp_path / folder)


def test_a_folder_with_a_configuration_alone_gets_no_made_up_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bart"}')
    with pytest.raises(ModelError, match=r"its tokenizer cannot be loaded: none of .*vocab\.json.* is there"):
        load_tokenizer(tmp_path)


def test_a_broken_json_file_is_named(tmp_path):
    (tmp_path / "modules.json").write_text("[{")
    with pytest.raises(ModelError, match=r"modules\.json: not readable as JSON"):
        read_json(str(tmp_path), "modules.json")


HIDDEN = {"main": "model.safetensors", "safe": "pytorch_model.bin"}  # by revision


class Hub(BaseHTTPRequestHandler):
    """The hub's file addresses for one repository: `main` has pickled weights alone, `safe` has safetensors."""

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        owner, name, kind, revision, *path = [*self.path.split("?")[0].strip("/").split("/"), "", "", "", ""][:12]
        file = ENCODER / "/".join(part for part in path if part)
        known = (owner, name, kind) == ("made", "encoder", "resolve") and revision in HIDDEN
        pickled = file.name == "pytorch_model.bin" and revision == "main"
        if not known or file.name == HIDDEN[revision] or not (file.is_file() or pickled):
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if "made/encoder" in self.path else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = b"pickle" if pickled else file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", hashlib.sha1(revision.encode()).hexdigest())
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


LOAD = """
import sys
from ragtune.errors import ModelError
from ragtune.models.encoders import Encoder

for name in sys.argv[1:]:
    try:
        print(Encoder.from_pretrained(name).fingerprint)
    except ModelError as error:
        print("error:", " ".join(str(error).split()))
"""


def test_a_hub_repository_is_loaded_at_its_revision_and_one_without_safetensors_gets_a_clear_word(hub, tmp_path):
    from ragtune.models.encoders import Encoder

    environment = os.environ | {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    environment |= {"HF_HUB_DISABLE_XET": "1", "DISABLE_SAFETENSORS_CONVERSION": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", LOAD, "made/encoder@safe", "made/encoder", "made/nothing"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    safe, pickled, absent = [line for line in done.stdout.splitlines() if line] or [done.stderr] * 3
    assert safe == Encoder.from_pretrained(ENCODER).fingerprint
    assert pickled.startswith("error: made/encoder: its weights are only there as pytorch_model.bin, a pickle")
    assert 'BertModel.from_pretrained("made/encoder")' in pickled or "AutoModel.from_pretrained" in pickled
    assert absent.startswith("error: made/nothing: there is no such folder, and the hub has no such model")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "gpt2", "n_positions": 128},
            "has 128 positions, and max_input_tokens=100 and",
        ),
        ({"model_type": "gpt2", "n_positions": 132}, ""),
        ({"model_type": "llama", "max_position_embeddings": 64}, "lower max_input_tokens to 32 or less"),
        ({"model_type": "bloom"}, ""),
        ({"model_type": "bart", "max_position_embeddings": 64}, "and max_input_tokens=100 need 100: lower"),
        ({"model_type": "bart", "max_position_embeddings": 100}, ""),
        ({"model_type": "t5"}, ""),
        (
            {"model_type": "led", "max_encoder_position_embeddings": 100, "max_decoder_position_embeddings": 16},
            "has 16 positions, and max_answer_tokens=32 need 32: lower max_answer_tokens to 16 or less",
        ),
        (
            {
                "model_type": "encoder-decoder",
                "encoder": {"model_type": "bert", "max_position_embeddings": 64},
                "decoder": {"model_type": "bert"},
                "is_encoder_decoder": True,
            },
            "has 64 positions",
        ),
    ],
    ids=lambda value: value.get("model_type") if isinstance(value, dict) else "",
)
def test_inputs_that_a_generator_has_no_positions_for_are_refused(tmp_path, config, message):
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = generator_config(tmp_path)
    if not message:
        check_positions(found, tmp_path, 100, 32)
        return
    with pytest.raises(ModelError) as raised:
        check_positions(found, tmp_path, 100, 32)
    assert message in str(raised.value) and str(tmp_path) in str(raised.value)
