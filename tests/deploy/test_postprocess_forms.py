"""What the forms of post-processing cannot express."""

import numpy as np
import pytest
import tensorflow as tf

from keras_lightdet.boxes import SelectSpec
from keras_lightdet.deploy.postprocess import build_postprocess
from keras_lightdet.errors import ExportError

GAUSSIAN, LINEAR = SelectSpec(soft="gaussian"), SelectSpec(soft="linear")


class BoxPerClass:
    select, num_classes, input_size = SelectSpec(), 3, (40, 40)

    def decode(self, raw):
        return raw["boxes"], raw["scores"]


ONE_REGION = {
    "boxes": tf.constant([[[[0, 0, 10, 20], [4, 8, 12, 40], [1, 1, 2, 2]]]], tf.float32),
    "scores": tf.constant([[[0.3, 0.6, 0.0]]]),
}


@pytest.mark.parametrize(("select", "form"), [(LINEAR, "builtin"), (LINEAR, "custom_op"), (GAUSSIAN, "custom_op")])
def test_soft_suppression_that_a_file_cannot_express_is_refused(select, form):
    with pytest.raises(ExportError, match="gaussian"):
        build_postprocess(BoxPerClass(), form, select)


def test_the_custom_op_refuses_a_box_for_each_class():
    with pytest.raises(ExportError, match="builtin"):
        build_postprocess(BoxPerClass(), "custom_op")(ONE_REGION)


def test_built_ins_give_each_class_its_own_box():
    found = build_postprocess(BoxPerClass(), "builtin")(ONE_REGION)
    assert found["count"].numpy().tolist() == [2]
    np.testing.assert_array_equal(found["labels"][0, :2], [1, 0])
    np.testing.assert_allclose(found["boxes"][0, :2], [[0.2, 0.1, 1.0, 0.3], [0, 0, 0.5, 0.25]], rtol=1e-6)
