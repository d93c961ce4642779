"""Reads the operators of a .tflite file."""

from keras_lightdet.deploy import flatbuffer


def quantized_ops(content):
    """Returns the names of ops that read or write an 8-bit tensor."""
    model, types = flatbuffer.unpack(content), flatbuffer.load_schema().TensorType
    subgraph = model.subgraphs[0]
    names = set()
    for operator in subgraph.operators:
        tensors = [subgraph.tensors[int(i)] for i in [*operator.inputs, *operator.outputs] if int(i) >= 0]
        if any(tensor.type in (types.INT8, types.UINT8) for tensor in tensors):
            names.add(flatbuffer.op_name(model.operatorCodes[operator.opcodeIndex]))
    return names
