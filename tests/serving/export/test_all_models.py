"""Every model of the registry, published and released, scores where there is nothing but TensorFlow."""

import numpy as np
import pytest

from tests.conformance.catalogue import BACKBONE, CATALOGUE
from tests.serving.exported import CANDIDATES, CUTS, USERS, export, score_in_a_fresh_process

# Prepared data have no behavior types.
ENTRIES = [entry for entry, (_, settings) in CATALOGUE.items() if "click" not in settings]
TOLERANCE = {"rtol": 0, "atol": 1e-6}


@pytest.fixture(scope="module")
def served(request, data, tmp_path_factory):
    """Entry of the catalogue -> its export, and what one fresh process scored with all of them.

    Only what is to be tested is exported, so that `-k twin` takes seconds.
    """
    entries = [
        item.callspec.params["entry"] for item in request.session.items if item.path == request.path
    ]
    folder = tmp_path_factory.mktemp("all")
    exports = [
        export(name, data, folder / str(number), embedding_dim=BACKBONE.embedding_dim, **settings)
        for number, (name, settings) in enumerate(CATALOGUE[entry] for entry in entries)
    ]
    scores = score_in_a_fresh_process(exports, folder)
    return dict(zip(entries, zip(exports, scores, strict=True), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES)
def test_every_signature_in_a_fresh_process_scores_as_the_model(entry, served):
    bundle_export, scores = served[entry]
    reference = bundle_export.expected
    assert np.ptp(reference) > 0.01
    np.testing.assert_allclose(scores["whole"], reference, **TOLERANCE)
    np.testing.assert_allclose(scores["parts"], reference, **TOLERANCE)
    records = reference.reshape(USERS, CUTS * CANDIDATES)
    np.testing.assert_allclose(scores["examples"], records, **TOLERANCE)
    assert ("updated" in scores) == bundle_export.model.is_incremental
    if bundle_export.model.is_incremental:
        np.testing.assert_allclose(scores["updated"], reference, **TOLERANCE)
