"""PNN's product layer: the factorized form against the sums in the paper."""

import numpy as np
import pytest

from dgin_tf.layers.product import ProductLayer, inner_products, outer_products

RNG = np.random.default_rng(4)
FIELDS = RNG.normal(size=(2, 3, 7, 5)).astype(np.float32)


def make(**options):
    layer = ProductLayer(11, **options)
    layer(FIELDS)
    for weight in layer.weights:
        weight.assign(RNG.normal(size=weight.shape))
    return layer


def linear(layer):
    return FIELDS.reshape(2, 3, -1) @ layer.kernel.numpy() + layer.bias.numpy()


@pytest.mark.parametrize("order", [1, 3])
def test_ipnn_is_the_explicit_double_sum(order):
    layer = make(order=order)
    theta, expected = layer.theta.numpy(), linear(layer)
    for i in range(7):
        for j in range(7):
            weight = (theta[i] * theta[j]).sum(0)
            expected = (
                expected + weight * (FIELDS[..., i, :] * FIELDS[..., j, :]).sum(-1)[..., None]
            )
    np.testing.assert_allclose(layer(FIELDS), expected, rtol=1e-4, atol=1e-4)


def test_ipnn_of_order_one_is_a_squared_norm():
    layer = make()
    weighted = np.einsum("fu,abfd->abud", layer.theta.numpy()[:, 0], FIELDS)
    expected = linear(layer) + (weighted**2).sum(-1)
    np.testing.assert_allclose(layer(FIELDS), expected, rtol=1e-4, atol=1e-4)


def test_opnn_superposes_all_ordered_pairs():
    expected = np.einsum("abid,abje->abde", FIELDS, FIELDS)
    np.testing.assert_allclose(outer_products(FIELDS), expected, rtol=1e-4, atol=1e-5)
    layer = make(products="outer")
    signal = expected.reshape(2, 3, -1) @ layer.outer_kernel.numpy()
    np.testing.assert_allclose(layer(FIELDS), linear(layer) + signal, rtol=1e-4, atol=1e-4)


def test_both_products_add_up():
    both = make(products="both")
    inner, outer = make(), make(products="outer")
    inner.set_weights([both.kernel, both.bias, both.theta])
    outer.set_weights([both.kernel, both.bias, both.outer_kernel])
    expected = inner(FIELDS) + outer(FIELDS) - linear(both)
    np.testing.assert_allclose(both(FIELDS), expected, rtol=1e-4, atol=1e-4)


def test_inner_products_are_symmetric():
    products = inner_products(FIELDS).numpy()
    np.testing.assert_allclose(products, np.swapaxes(products, -1, -2), rtol=1e-5)


def test_without_product_weights_the_layer_is_linear():
    layer = make()
    layer.theta.assign(np.zeros(layer.theta.shape))
    np.testing.assert_allclose(layer(FIELDS), linear(layer), rtol=1e-4, atol=1e-5)


def test_a_zero_field_has_zero_products():
    fields = FIELDS.copy()
    fields[..., 2, :] = 0
    assert not inner_products(fields).numpy()[..., 2, :].any()


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="got 'sum'"):
        ProductLayer(11, products="sum")
    with pytest.raises(ValueError, match="at least 1; got 0"):
        ProductLayer(11, order=0)
