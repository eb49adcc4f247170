import json
import shutil

import numpy as np
import pytest
import torch
from tiny_parts import PASSAGES, QUESTIONS, TEXTS, bert, bert_tokenizer, dpr_encoder
from transformers import AutoModel, BertConfig, DPRConfig, DPRContextEncoder, DPRQuestionEncoder, DPRReader

from ragtune.errors import ModelError
from ragtune.models.encoders import Encoder


@pytest.fixture(scope="module")
def sentence_transformers():
    return pytest.importorskip("sentence_transformers")


@pytest.fixture
def tiny_folder(tmp_path):
    """A sentence-transformers folder of two layers, mean-pooled and normalised, written by ragtune."""
    return write_folder(tmp_path / "tiny")


def write_folder(folder, pooling=None, normalize=True, seed=0, **files):
    """A sentence-transformers folder written by hand; `files` are its further JSON files."""
    torch.manual_seed(seed)
    tokenizer = bert_tokenizer()
    bert(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    modules = ["Transformer", "Pooling", "Normalize"][: 3 if normalize else 2]
    paths = ["", "1_Pooling", "2_Normalize"]
    contents = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": paths[i], "type": f"sentence_transformers.models.{module}"}
            for i, module in enumerate(modules)
        ],
        "1_Pooling/config.json": {"word_embedding_dimension": 16} | (pooling or {"pooling_mode_mean_tokens": True}),
        "sentence_bert_config.json": {"max_seq_length": 24, "do_lower_case": False},
    }
    (folder / "1_Pooling").mkdir()
    for name, content in (contents | {f"{name}.json": content for name, content in files.items()}).items():
        (folder / name).write_text(json.dumps(content))
    return folder


def assert_equal_to_sentence_transformers(encoder, folder, sentence_transformers, texts=TEXTS, **options):
    expected = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts, **options)
    np.testing.assert_allclose(encoder.encode(texts), expected, rtol=0, atol=1e-5)


# Equality with the classes that the folders come from


def test_minilm_equals_sentence_transformers(minilm, sentence_transformers):
    texts = [*TEXTS, "", "a " * 400]
    assert_equal_to_sentence_transformers(Encoder.from_pretrained(minilm), minilm, sentence_transformers, texts)


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_cls_token": True},
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_tokens": True},
        {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True},
        {"pooling_mode": "cls"},
        {"pooling_mode": ["mean", "cls"]},
        {"pooling_mode_lasttoken": True},
        {"pooling_mode": "weightedmean"},
        {"pooling_mode_mean_sqrt_len_tokens": True, "pooling_mode_lasttoken": True},
    ],
)
@pytest.mark.parametrize("normalize", [True, False])
def test_every_pooling_equals_sentence_transformers(pooling, normalize, tmp_path, sentence_transformers):
    folder = write_folder(tmp_path / "encoder", pooling, normalize)
    encoder = Encoder.from_pretrained(folder)
    assert encoder.normalizes == normalize
    assert_equal_to_sentence_transformers(encoder, folder, sentence_transformers)


def test_a_folder_of_todays_sentence_transformers_is_read(tmp_path, sentence_transformers):
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    tokenizer = bert_tokenizer()
    bert(tokenizer).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    modules = [Transformer(str(tmp_path / "bert")), Pooling(16, "max"), Normalize()]
    sentence_transformers.SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(tmp_path / "saved"))
    encoder = Encoder.from_pretrained(tmp_path / "saved")
    assert encoder.pooling.modes == ("max",)
    assert_equal_to_sentence_transformers(encoder, tmp_path / "saved", sentence_transformers)


def test_the_transformer_may_stand_in_a_subfolder(tmp_path, sentence_transformers):
    flat = write_folder(tmp_path / "flat")
    nested = tmp_path / "nested"
    shutil.copytree(flat, nested / "0_Transformer", ignore=shutil.ignore_patterns("modules.json", "1_Pooling"))
    shutil.copytree(flat / "1_Pooling", nested / "1_Pooling")
    modules = json.loads((flat / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (nested / "modules.json").write_text(json.dumps(modules))
    encoder = Encoder.from_pretrained(nested)
    assert encoder.fingerprint == Encoder.from_pretrained(flat).fingerprint
    assert_equal_to_sentence_transformers(encoder, nested, sentence_transformers)


def test_lower_casing_of_the_folder_is_obeyed(tmp_path, sentence_transformers):
    folder = write_folder(tmp_path / "cased", sentence_bert_config={"max_seq_length": 24, "do_lower_case": True})
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text()) | {"do_lower_case": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    assert_equal_to_sentence_transformers(Encoder.from_pretrained(folder), folder, sentence_transformers)


def test_prompts_stand_before_questions_and_passages(tmp_path, sentence_transformers):
    prompts = {"query": "is it ", "document": "capital: "}
    folder = write_folder(tmp_path / "prompted", config_sentence_transformers={"prompts": prompts})
    question = Encoder.from_pretrained(folder, "question")
    passage = Encoder.from_pretrained(folder, "passage")
    assert (question.prompt, passage.prompt) == ("is it ", "capital: ")
    assert_equal_to_sentence_transformers(question, folder, sentence_transformers, QUESTIONS, prompt="is it ")
    texts = [f"{passage.title}. {passage.text}" if passage.title else passage.text for passage in PASSAGES]
    expected = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts, prompt="capital: ")
    np.testing.assert_allclose(passage.encode_passages(PASSAGES, precision="float32"), expected, rtol=0, atol=1e-5)
    question.save_pretrained(tmp_path / "saved")
    assert Encoder.from_pretrained(tmp_path / "saved", "question").fingerprint == question.fingerprint


@pytest.mark.parametrize(("role", "model_class"), [("question", DPRQuestionEncoder), ("passage", DPRContextEncoder)])
@pytest.mark.parametrize("dimension", [16, 8])
def test_dpr_equals_its_own_class(role, model_class, dimension, tmp_path):
    dpr_encoder(role, dimension).save_pretrained(tmp_path)
    encoder = Encoder.from_pretrained(tmp_path, role)
    model, tokenizer = model_class.from_pretrained(tmp_path).eval(), encoder.tokenizer
    with torch.no_grad():
        expected = model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).pooler_output
    assert encoder.dimension == dimension and not encoder.normalizes
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, rtol=0, atol=1e-5)


def test_dpr_reads_a_passage_as_the_pair_of_title_and_text_as_hugging_face_rag_does():
    encoder = dpr_encoder("passage")
    titles, texts = [p.title for p in PASSAGES], [p.text for p in PASSAGES]
    input_ids = encoder.tokenizer(titles, texts, truncation=True, padding="longest", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = encoder.backbone(input_ids).pooler_output
    np.testing.assert_allclose(encoder.encode_passages(PASSAGES, precision="float32"), expected, rtol=0, atol=1e-5)


# Saving


def test_a_saved_dpr_folder_is_loaded_back_by_dprs_class(tmp_path):
    encoder = dpr_encoder("question")
    encoder.save_pretrained(tmp_path)
    loaded = DPRQuestionEncoder.from_pretrained(tmp_path)
    for name, weight in encoder.backbone.state_dict().items():
        assert torch.equal(weight, loaded.state_dict()[name]), name
    assert list(tmp_path.glob("*.safetensors")) and not list(tmp_path.glob("*.bin"))


@pytest.mark.parametrize("normalize", [True, False])
def test_a_saved_folder_is_loaded_back_by_sentence_transformers(normalize, tmp_path, sentence_transformers):
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    encoder = Encoder.from_pretrained(write_folder(tmp_path / "from", pooling, normalize))
    encoder.save_pretrained(tmp_path / "to")
    assert_equal_to_sentence_transformers(encoder, tmp_path / "to", sentence_transformers)


# Fingerprints


def test_folders_of_equal_weights_share_a_fingerprint(tiny_folder, tmp_path):
    encoder = Encoder.from_pretrained(tiny_folder)
    encoder.save_pretrained(tmp_path / "copy")
    encoder.encode(TEXTS, max_length=5)  # which leaves its own truncation behind in the tokenizer
    assert Encoder.from_pretrained(tmp_path / "copy").fingerprint == encoder.fingerprint
    assert len(encoder.fingerprint) == 64


def test_precision_of_the_file_does_not_change_the_fingerprint(tiny_folder, tmp_path):
    model = AutoModel.from_pretrained(tiny_folder).half()
    for name, dtype in (("half", torch.float16), ("single", torch.float32)):
        shutil.copytree(tiny_folder, tmp_path / name)
        model.to(dtype).save_pretrained(tmp_path / name)
    half, single = (Encoder.from_pretrained(tmp_path / name) for name in ("half", "single"))
    assert half.backbone.dtype == torch.float32
    assert half.fingerprint == single.fingerprint


def test_weights_tokenizer_and_pooling_each_change_the_fingerprint(tmp_path):
    original = Encoder.from_pretrained(write_folder(tmp_path / "a"))
    found = {original.fingerprint}
    found.add(Encoder.from_pretrained(write_folder(tmp_path / "b", seed=1)).fingerprint)
    found.add(Encoder.from_pretrained(write_folder(tmp_path / "c", {"pooling_mode_cls_token": True})).fingerprint)
    found.add(Encoder.from_pretrained(write_folder(tmp_path / "d", normalize=False)).fingerprint)
    original.tokenizer.add_tokens(["newword"])
    found.add(original.fingerprint)
    assert len(found) == 5


def test_the_fingerprint_follows_training(tiny_folder):
    encoder = Encoder.from_pretrained(tiny_folder)
    before = encoder.fingerprint
    with torch.no_grad():
        next(iter(encoder.backbone.encoder.parameters())).add_(0.01)
    assert encoder.fingerprint != before


# Encoding


def test_order_and_batching_do_not_change_the_vectors(tiny_folder):
    encoder = Encoder.from_pretrained(tiny_folder)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode(TEXTS, batch_size=4), alone, rtol=0, atol=1e-6)
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1], batch_size=3)[::-1], alone, rtol=0, atol=1e-6)


def test_bfloat16_moves_vectors_a_little_and_ranks_not_at_all(minilm):
    encoder = Encoder.from_pretrained(minilm)
    exact, half = (encoder.encode_passages(PASSAGES, precision=name) for name in ("float32", "bfloat16"))
    assert half.dtype == np.float32 and not np.array_equal(exact, half)
    np.testing.assert_allclose(half, exact, rtol=0, atol=5e-3)
    assert (half * exact).sum(axis=1).min() >= 0.999
    questions = encoder.encode(QUESTIONS)
    assert np.array_equal(np.argsort(questions @ half.T), np.argsort(questions @ exact.T))


def test_progress_reaches_the_end(tiny_folder, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "ragtune.models.encoders.show_progress", lambda items, *_, **__: (shown.append(i) or i for i in items)
    )
    Encoder.from_pretrained(tiny_folder).encode(TEXTS, batch_size=4, progress=True)
    assert shown == list(range(len(TEXTS)))


def test_more_texts_than_are_tokenised_at_once_come_back_in_order(tiny_folder, monkeypatch):
    monkeypatch.setattr("ragtune.models.batching._BATCHES_AHEAD", 1)
    encoder = Encoder.from_pretrained(tiny_folder)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode(TEXTS, batch_size=3), alone, rtol=0, atol=1e-6)


def test_encoding_is_without_dropout_and_leaves_training_mode_as_it_was(tiny_folder):
    encoder = Encoder.from_pretrained(tiny_folder)
    encoder.backbone.config.hidden_dropout_prob = 0.5
    encoder.train()
    assert np.array_equal(encoder.encode(TEXTS), encoder.encode(TEXTS))
    assert encoder.training and encoder.backbone.training


def test_nothing_to_encode_gives_no_rows(tiny_folder):
    assert Encoder.from_pretrained(tiny_folder).encode([]).shape == (0, 16)


def test_the_vectors_carry_gradient_to_every_weight_that_is_not_frozen(tiny_folder):
    encoder = Encoder.from_pretrained(tiny_folder)
    tokens = encoder.tokenizer(TEXTS, padding=True, return_tensors="pt")
    encoder(tokens["input_ids"], tokens["attention_mask"])[:, 0].sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in encoder.parameters())


# Errors


def test_a_folder_of_neither_kind_is_an_error(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="neither"):
        Encoder.from_pretrained(tmp_path)


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere: .*no such folder"):
        Encoder.from_pretrained(tmp_path / "nowhere")


def test_a_name_that_the_hub_cannot_give_is_an_error():
    with pytest.raises(ModelError, match="hub cannot be reached"):
        Encoder.from_pretrained("no-one/has-such-a-model")


def test_swapped_dpr_encoders_are_an_error(tmp_path):
    dpr_encoder("passage").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="swapped"):
        Encoder.from_pretrained(tmp_path, "question")


def test_a_dpr_reader_is_an_error(tmp_path):
    DPRReader(DPRConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(
        tmp_path
    )
    with pytest.raises(ModelError, match="DPRReader"):
        Encoder.from_pretrained(tmp_path)


def test_weights_of_another_shape_are_an_error(tiny_folder):
    config = json.loads((tiny_folder / "config.json").read_text()) | {"intermediate_size": 48}
    (tiny_folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"tiny: weights do not fit.*\(32,.*\(48,"):
        Encoder.from_pretrained(tiny_folder)


def test_missing_weights_are_an_error_not_random_numbers(tiny_folder):
    config = json.loads((tiny_folder / "config.json").read_text()) | {"num_hidden_layers": 3}
    (tiny_folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"weights missing.*encoder\.layer\.2"):
        Encoder.from_pretrained(tiny_folder)


def test_pickled_weights_are_refused(tiny_folder):
    (tiny_folder / "model.safetensors").unlink()
    torch.save({}, tiny_folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        Encoder.from_pretrained(tiny_folder)


def test_pickled_weights_are_told_with_the_way_out(tiny_folder):
    (tiny_folder / "model.safetensors").unlink()
    torch.save({}, tiny_folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only there as pytorch_model\.bin, a pickle.*save_pretrained\(FOLDER\)"):
        Encoder.from_pretrained(tiny_folder)


def test_an_unknown_module_is_an_error(tiny_folder):
    modules = json.loads((tiny_folder / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.WordWeights"
    (tiny_folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="WordWeights"):
        Encoder.from_pretrained(tiny_folder)


@pytest.mark.parametrize("pooling", [{"pooling_mode_attention": True}, {"pooling_mode": "attention"}])
def test_an_unknown_pooling_is_an_error(tmp_path, pooling):
    with pytest.raises(ModelError, match="attention"):
        Encoder.from_pretrained(write_folder(tmp_path / "encoder", pooling))


def dense_folder(tmp_path, **options):
    """The folder that sentence-transformers itself writes of an encoder with two Dense modules."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    tokenizer = bert_tokenizer()
    bert(tokenizer).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    torch.manual_seed(1)
    dense = [Dense(16, 24, bias=False, activation_function=torch.nn.Identity()), Dense(24, 8, **options)]
    modules = [Transformer(str(tmp_path / "bert")), Pooling(16, "lasttoken"), *dense, Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(tmp_path / "dense"))
    return tmp_path / "dense"


def test_dense_modules_equal_sentence_transformers_and_are_saved_as_theirs(tmp_path, sentence_transformers):
    folder = dense_folder(tmp_path)
    encoder = Encoder.from_pretrained(folder)
    assert (encoder.dimension, encoder.pooling.modes, encoder.normalizes) == (8, ("lasttoken",), True)
    assert_equal_to_sentence_transformers(encoder, folder, sentence_transformers)
    with torch.no_grad():
        encoder.dense[0][0].weight += 0.1
    encoder.save_pretrained(tmp_path / "saved")
    assert_equal_to_sentence_transformers(encoder, tmp_path / "saved", sentence_transformers)
    assert Encoder.from_pretrained(tmp_path / "saved").fingerprint == encoder.fingerprint
    assert Encoder.from_pretrained(folder).fingerprint != encoder.fingerprint


def test_dense_modules_are_trained_with_the_encoder(tmp_path, sentence_transformers):
    encoder = Encoder.from_pretrained(dense_folder(tmp_path))
    input_ids, attention_mask = encoder.pad(encoder.tokenize_passages(PASSAGES))
    encoder(input_ids, attention_mask)[:, 0].sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in encoder.dense.parameters())


def test_a_dense_module_that_ragtune_has_not_is_refused(tmp_path, sentence_transformers):
    with pytest.raises(ModelError, match=r"3_Dense/config\.json.*without residual"):
        Encoder.from_pretrained(dense_folder(tmp_path, use_residual=True))


def test_a_dense_module_without_safetensors_is_refused(tmp_path, sentence_transformers):
    folder = dense_folder(tmp_path)
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"2_Dense: a Dense module needs config\.json and model\.safetensors"):
        Encoder.from_pretrained(folder)


def test_padding_on_the_left_changes_no_vector(tmp_path):
    for mode in ("cls", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"):
        pooling = Encoder.from_pretrained(write_folder(tmp_path / mode, {"pooling_mode": mode})).pooling
        vectors, mask = torch.randn(1, 3, 16), torch.ones(1, 3)
        right = pooling(torch.cat([vectors, torch.randn(1, 2, 16)], 1), torch.cat([mask, torch.zeros(1, 2)], 1))
        left = pooling(torch.cat([torch.randn(1, 2, 16), vectors], 1), torch.cat([torch.zeros(1, 2), mask], 1))
        torch.testing.assert_close(left, right)
        torch.testing.assert_close(right, pooling(vectors, mask))


def test_both_prompts_of_a_folder_are_kept_when_it_is_saved(tmp_path):
    prompts = {"query": "is it ", "document": "capital: "}
    folder = write_folder(tmp_path / "prompted", config_sentence_transformers={"prompts": prompts})
    Encoder.from_pretrained(folder, "question").save_pretrained(tmp_path / "saved")
    assert Encoder.from_pretrained(tmp_path / "saved", "passage").prompt == "capital: "


def test_dtype_and_attention_are_as_asked_for(tiny_folder):
    encoder = Encoder.from_pretrained(tiny_folder, dtype=torch.bfloat16, attn_implementation="eager")
    assert {weight.dtype for weight in encoder.backbone.parameters()} == {torch.bfloat16}
    assert encoder.backbone.config._attn_implementation == "eager"
    expected = Encoder.from_pretrained(tiny_folder).encode(TEXTS)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, rtol=0, atol=0.05)
