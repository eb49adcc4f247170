"""The losses against their formulas, with gradients; chunked and gathered they are the same."""

import multiprocessing

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F
from world import PASSAGES

from ragtune.models.encoders import Encoder
from ragtune.training.methods import contrast

B, K, D, TAU = 4, 3, 5, 0.1


def make_vectors(seed=0):
    """Questions and passages of length 1, and a mask that leaves every question its positive."""
    generator = torch.Generator().manual_seed(seed)
    questions = F.normalize(torch.randn(B, D, generator=generator, dtype=torch.float64), dim=-1)
    passages = F.normalize(torch.randn(B, K, D, generator=generator, dtype=torch.float64), dim=-1)
    excluded = torch.rand(B, K * B, generator=generator) < 0.3
    excluded[torch.arange(B), torch.arange(B)] = False
    return questions.requires_grad_(), passages.requires_grad_(), excluded


def by_hand(questions, passages, excluded):
    """−mean log of the positive's share, passage by passage."""
    losses = []
    for i in range(B):
        others = [(j, c) for c in range(K) for j in range(B) if not excluded[i, c * B + j]]
        exponentials = torch.stack([(questions[i] @ passages[j, c] / TAU).exp() for j, c in others])
        losses.append(-((questions[i] @ passages[i, 0] / TAU).exp() / exponentials.sum()).log())
    return torch.stack(losses).mean()


def gradients(loss, *inputs):
    return torch.autograd.grad(loss, inputs)


def assert_equal(found, expected, tolerance=1e-9):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_infonce_is_the_formula_over_what_is_not_excluded():
    questions, passages, excluded = make_vectors()
    loss = contrast.info_nce(questions, passages, excluded, TAU, gather=False)
    expected = by_hand(questions, passages, excluded)
    assert_equal([loss, *gradients(loss, questions, passages)], [expected, *gradients(expected, questions, passages)])
    assert excluded.any()


def test_infonce_is_computed_in_float32_under_autocast():
    questions, passages, excluded = (part.float() if part.is_floating_point() else part for part in make_vectors())
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrast.info_nce(questions, passages, excluded, TAU, gather=False)
    torch.testing.assert_close(loss, by_hand(questions, passages, excluded), rtol=1e-5, atol=1e-5)


def half(rank, store, found):
    """One of two processes, with two of the questions and their passages."""
    questions, passages, excluded = make_vectors()
    dist.init_process_group("gloo", rank=rank, world_size=2, store=dist.FileStore(store, 2))
    own = slice(2 * rank, 2 * rank + 2)
    asked, texts = questions[own].detach().requires_grad_(), passages[own].detach().requires_grad_()
    rows = contrast.gathered_rows(torch.arange(4 * rank, 4 * rank + 4).view(2, 2))
    loss = contrast.info_nce(asked, texts, excluded[own], TAU, gather=True)
    torch.save([loss.detach(), *gradients(loss, asked, texts), rows], found / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_loss_and_the_gradient_of_one(tmp_path):
    """DDP averages what the two give."""
    questions, passages, excluded = make_vectors()
    loss = contrast.info_nce(questions, passages, excluded, TAU, gather=False)
    expected = [loss, *gradients(loss, questions, passages)]
    forked = multiprocessing.get_context("fork")  # which spares the imports
    arguments = (str(tmp_path / "store"), tmp_path)
    processes = [forked.Process(target=half, args=(rank, *arguments), daemon=True) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert one[3].tolist() == other[3].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    mean = (one[0] + other[0]) / 2
    together = [torch.cat([one[part], other[part]]) / 2 for part in (1, 2)]
    assert_equal([mean, *together], expected)


def test_contrastive_pairs_are_the_positive_the_own_negatives_and_the_next_questions_positive():
    questions, passages, excluded = make_vectors()
    own = torch.ones(B, K, dtype=torch.bool)
    own[1, 2] = False
    loss = contrast.contrastive(questions, passages, excluded, own, margin=0.9)
    terms = []
    for i in range(B):
        others = [passages[i, c] for c in range(1, K) if own[i, c]]
        others += [] if excluded[i, (i + 1) % B] else [passages[(i + 1) % B, 0]]
        away = [1 - F.cosine_similarity(questions[i], other, dim=0) for other in (passages[i, 0], *others)]
        terms += [away[0] ** 2, *(F.relu(0.9 - distance) ** 2 for distance in away[1:])]
    expected = torch.stack(terms).mean() / 2
    assert_equal([loss, *gradients(loss, questions, passages)], [expected, *gradients(expected, questions, passages)])


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_chunks_change_neither_vectors_nor_gradient(still_world, chunk_size):
    encoder = Encoder.from_pretrained(still_world.encoder, "passage").train()
    tokens = [*encoder.tokenize_passages(PASSAGES[:6]), *encoder.tokenize_passages([PASSAGES[6]] * 1)]
    tokens[2] = tokens[2][:4]
    ids, mask = encoder.pad(tokens)
    weights = torch.randn(len(ids), encoder.dimension, generator=torch.Generator().manual_seed(0))
    learnt = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    results = []
    for size in (0, chunk_size):
        vectors = contrast.encode(encoder, ids, mask, size, at_most=20)
        results.append([vectors.detach(), *gradients((vectors * weights).sum(), *learnt)])
    assert_equal(results[1], results[0], tolerance=1e-6)
    assert_equal([results[0][0]], [encoder(ids, mask)], tolerance=1e-6)


def test_a_chunk_is_computed_again_with_the_dropout_that_it_had(world):
    encoder = Encoder.from_pretrained(world.encoder, "passage").train()
    ids, mask = encoder.pad(encoder.tokenize_passages(PASSAGES[:4]))
    results = []
    for recompute in (False, True):
        torch.manual_seed(0)
        one_by_one = [encoder(ids[[i]], mask[[i]]) for i in range(4)]
        if recompute:
            torch.manual_seed(0)
            one_by_one = [contrast.encode(encoder, ids, mask, chunk_size=1)]
        loss = (torch.cat(one_by_one)[0] * torch.arange(encoder.dimension)).sum()
        results.append([loss, *gradients(loss, encoder.backbone.embeddings.word_embeddings.weight)])
    assert_equal(results[1], results[0], tolerance=1e-5)


def test_a_question_alone_is_contrasted_with_its_own_negatives_and_never_with_its_positive():
    questions, passages, excluded = make_vectors()
    there = torch.tensor([[True, False, True]])
    loss = contrast.contrastive(questions[:1], passages[:1], excluded[:1, ::B], there, margin=2.0)
    near, far = (1 - F.cosine_similarity(questions[0], passages[0, place], dim=0) for place in (0, 2))
    torch.testing.assert_close(loss, (near**2 + (2.0 - far) ** 2) / 4)
