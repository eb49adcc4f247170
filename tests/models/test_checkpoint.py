import json
import shutil

import pytest
import torch
from test_rag import batch_of, hugging_face_loss, loss_of
from tiny_parts import (
    KINDS,
    bert,
    bert_tokenizer,
    dpr_encoder,
    generator_and_tokenizer,
    rag_model,
    t5,
    t5_tokenizer,
    tiny_generator,
)
from transformers import AutoTokenizer, RagSequenceForGeneration, RagTokenForGeneration, RagTokenizer

from ragtune.errors import ModelError
from ragtune.models.checkpoint import export_huggingface, load_model, read_description, save_model
from ragtune.models.encoders import Encoder
from ragtune.models.generators.seq2seq import Seq2SeqGenerator
from ragtune.models.pooling import Pooling
from ragtune.models.rag import RagConfig, RagModel


@pytest.fixture
def saved(tmp_path):
    save_model(rag_model("bart"), tmp_path / "model")
    return tmp_path / "model"


def assert_same_weights(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert torch.equal(weight, theirs[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_comes_back_with_weights_config_and_tokenizers(kind, tmp_path):
    model = rag_model(kind, temperature=0.25)
    save_model(model, tmp_path / "model", {"knowledge_base": "kb_v3"})
    loaded = load_model(tmp_path / "model")
    assert_same_weights(model, loaded)
    assert loaded.config == model.config
    assert not loaded.training
    assert loaded.question_encoder.fingerprint == model.question_encoder.fingerprint
    assert (loaded.question_encoder.name, loaded.passage_encoder.name) == ("tiny-question", "tiny-passage")
    batch = batch_of(model)
    torch.testing.assert_close(loaded(**batch).log_likelihoods, model(**batch).log_likelihoods)
    assert loaded.generator.tokenizer("Paris is").input_ids == model.generator.tokenizer("Paris is").input_ids


def test_sentence_transformers_encoders_are_saved_with_their_pooling(tmp_path):
    tokenizer = bert_tokenizer()
    pooling = Pooling("sentence-transformers", ("mean",), True, 64)
    encoders = [Encoder(bert(tokenizer), tokenizer, pooling, "mean") for _ in range(2)]
    save_model(RagModel(*encoders, tiny_generator("t5"), RagConfig(temperature=0.05)), tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.passage_encoder.pooling == pooling
    assert loaded.passage_encoder.fingerprint == encoders[1].fingerprint


def test_the_folder_holds_safetensors_and_the_lineage(tmp_path):
    model = rag_model("t5")
    save_model(model, tmp_path / "model", {"questions": "abc"})
    assert not [path for path in (tmp_path / "model").rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".pth")]
    assert len(list((tmp_path / "model").glob("*/model.safetensors"))) == 3
    description = read_description(tmp_path / "model")
    assert description["lineage"] == {"questions": "abc"}
    assert description["encoders"]["passage"]["fingerprint"] == model.passage_encoder.fingerprint


@pytest.mark.parametrize(("method", "marginalization"), [("rag", "sequence"), ("rag-token", "token")])
def test_a_folder_of_an_earlier_ragtune_is_read(saved, method, marginalization):
    """Its ragtune.json says `method` where it is now `marginalization`."""
    description = json.loads((saved / "ragtune.json").read_text())
    del description["config"]["marginalization"]
    description["config"]["method"] = method
    (saved / "ragtune.json").write_text(json.dumps(description))
    assert load_model(saved).config.marginalization == marginalization
    assert read_description(saved)["config"]["marginalization"] == marginalization


def test_a_failed_save_leaves_the_old_model(saved, monkeypatch):
    model = rag_model("bart", seed=1)

    def fail(folder):
        raise RuntimeError("broken off")

    monkeypatch.setattr(model.generator.tokenizer, "save_pretrained", fail)
    with pytest.raises(RuntimeError, match="broken off"):
        save_model(model, saved)
    assert_same_weights(load_model(saved), rag_model("bart"))
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_a_model_is_replaced_whole(saved):
    save_model(rag_model("t5"), saved)
    assert type(load_model(saved).generator.backbone).__name__ == "T5ForConditionalGeneration"


def test_parts_may_be_hub_style_folders_of_their_own(tmp_path):
    for part in ("question", "passage"):
        dpr_encoder(part).save_pretrained(tmp_path / part)
    generator, tokenizer = generator_and_tokenizer("t5")
    generator.save_pretrained(tmp_path / "generator")
    tokenizer.save_pretrained(tmp_path / "generator")
    model = RagModel.from_parts(tmp_path / "question", tmp_path / "passage", tmp_path / "generator")
    assert_same_weights(model.generator.backbone, generator)
    assert model.config == RagConfig()


def test_a_generator_saved_in_half_precision_is_loaded_as_float32(tmp_path):
    for part in ("question", "passage"):
        dpr_encoder(part).save_pretrained(tmp_path / part)
    tokenizer = t5_tokenizer()
    t5(tokenizer).half().save_pretrained(tmp_path / "generator")
    tokenizer.save_pretrained(tmp_path / "generator")
    model = RagModel.from_parts(tmp_path / "question", tmp_path / "passage", tmp_path / "generator")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


# Hugging Face's own classes


@pytest.mark.parametrize("kind", ["bart", "t5"])
@pytest.mark.parametrize(
    ("marginalization", "rag_class"), [("sequence", RagSequenceForGeneration), ("token", RagTokenForGeneration)]
)
def test_hugging_faces_class_loads_the_export_with_the_same_weights(kind, marginalization, rag_class, tmp_path):
    model = rag_model(kind, marginalization=marginalization)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    export_huggingface(model, tmp_path / "exported")
    exported, loading = rag_class.from_pretrained(tmp_path / "exported", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"] and not loading["mismatched_keys"]
    assert_same_weights(exported.question_encoder, model.question_encoder.backbone)
    assert_same_weights(exported.generator, model.generator.backbone)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert exported.config.n_docs == 3 and exported.config.max_combined_length == 300


def test_the_export_has_the_same_loss(tmp_path):
    model = rag_model("bart")
    batch = batch_of(model)
    export_huggingface(model, tmp_path / "exported")
    exported = RagSequenceForGeneration.from_pretrained(tmp_path / "exported").eval()
    copy = RagModel(
        Encoder(exported.question_encoder, model.question_encoder.tokenizer, model.question_encoder.pooling, "copy"),
        model.passage_encoder,
        Seq2SeqGenerator(exported.generator, model.generator.tokenizer),
        model.config,
    )
    expected = hugging_face_loss(copy, RagSequenceForGeneration, batch).mean()
    torch.testing.assert_close(loss_of(model, batch), expected, rtol=0, atol=1e-5)


def test_the_export_holds_both_tokenizers(tmp_path):
    model = rag_model("bart")
    export_huggingface(model, tmp_path / "exported")
    tokenizer = RagTokenizer.from_pretrained(tmp_path / "exported")
    text = "Paris is the capital"
    assert tokenizer.question_encoder(text)["input_ids"] == model.question_encoder.tokenizer(text)["input_ids"]
    assert tokenizer.generator(text)["input_ids"] == model.generator.tokenizer(text)["input_ids"]


def test_what_hugging_face_cannot_express_is_not_exported(tmp_path):
    with pytest.raises(ModelError, match=r"temperature 0\.5"):
        export_huggingface(rag_model("bart", temperature=0.5), tmp_path / "exported")
    with pytest.raises(ModelError, match="reads its passages in one prompt"):
        export_huggingface(rag_model("bart", marginalization="none"), tmp_path / "exported")
    tokenizer = bert_tokenizer()
    encoder = Encoder(bert(tokenizer), tokenizer, Pooling("sentence-transformers", ("mean",), True, 64), "mean")
    model = RagModel(encoder, encoder, tiny_generator("bart"), RagConfig())
    with pytest.raises(ModelError, match="DPR question encoders only"):
        export_huggingface(model, tmp_path / "exported")
    with pytest.raises(ModelError, match=r"encoder-decoders only.*AutoModelForCausalLM"):
        export_huggingface(rag_model("llama"), tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


# Errors


def test_a_folder_without_description_is_an_error(tmp_path):
    with pytest.raises(ModelError, match=r"ragtune\.json: missing"):
        load_model(tmp_path)


@pytest.mark.parametrize("part", ["question_encoder", "passage_encoder", "generator"])
def test_a_missing_part_is_an_error(saved, part):
    shutil.rmtree(saved / part)
    with pytest.raises(ModelError, match=part):
        load_model(saved)


@pytest.mark.parametrize("part", ["question_encoder", "passage_encoder", "generator"])
def test_missing_weights_are_an_error(saved, part):
    (saved / part / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=f"{part}.*safetensors"):
        load_model(saved)


def test_broken_weights_are_an_error(saved):
    (saved / "generator" / "model.safetensors").write_bytes(b"half a file")
    with pytest.raises(ModelError, match="generator"):
        load_model(saved)


@pytest.mark.parametrize("part", ["question_encoder", "passage_encoder", "generator"])
def test_a_missing_tokenizer_is_an_error_not_one_of_five_tokens(saved, part):
    for path in (saved / part).glob("*token*"):
        path.unlink()
    with pytest.raises(ModelError, match=f"{part}: its tokenizer cannot be loaded: none of"):
        load_model(saved)


def test_weights_of_another_architecture_are_an_error(saved):
    generator, _ = generator_and_tokenizer("t5")
    generator.save_pretrained(saved / "t5")
    shutil.copy(saved / "t5" / "model.safetensors", saved / "generator" / "model.safetensors")
    with pytest.raises(ModelError, match=r"generator: weights (missing|do not fit)"):
        load_model(saved)


def test_an_encoder_in_the_generators_place_is_an_error(saved):
    shutil.rmtree(saved / "generator")
    shutil.copytree(saved / "question_encoder", saved / "generator")
    with pytest.raises(ModelError, match="generator: holds DPRQuestionEncoder, which writes no text"):
        load_model(saved)


def test_a_tokenizer_of_more_words_than_the_generator_is_an_error(saved):
    tokenizer = AutoTokenizer.from_pretrained(saved / "generator")
    tokenizer.add_tokens(["one", "more"])
    tokenizer.save_pretrained(saved / "generator")
    with pytest.raises(ModelError, match=r"generator: the tokenizer has 362 tokens, the generator embeds 360"):
        load_model(saved)


def test_a_newer_format_is_an_error(saved):
    description = json.loads((saved / "ragtune.json").read_text())
    (saved / "ragtune.json").write_text(json.dumps(description | {"format": 2}))
    with pytest.raises(ModelError, match="format 2"):
        load_model(saved)


def test_unknown_settings_are_an_error(saved):
    description = json.loads((saved / "ragtune.json").read_text())
    description["config"]["warp"] = 9
    (saved / "ragtune.json").write_text(json.dumps(description))
    with pytest.raises(ModelError, match="unknown settings warp"):
        load_model(saved)


def test_python_code_beside_the_weights_is_not_run(saved):
    config = json.loads((saved / "generator" / "config.json").read_text())
    config |= {"model_type": "custom", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForSeq2SeqLM": "evil.Model"}}
    (saved / "generator" / "config.json").write_text(json.dumps(config))
    (saved / "generator" / "evil.py").write_text(f"open({str(saved / 'pwned')!r}, 'w')")
    with pytest.raises(ModelError, match="trust_remote_code"):
        load_model(saved)
    assert not (saved / "pwned").exists()
