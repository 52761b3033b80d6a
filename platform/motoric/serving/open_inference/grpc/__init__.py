"""The Open Inference Protocol v2 over gRPC.

`grpc_predict_v2.proto` is the protocol's; the module beside it is made from it, with the
grpcio-tools whose code runs on protobuf 6 and 7 (tritonclient asks for 6, Ray takes 7):

    pip install grpcio-tools==1.73.1
    python -m grpc_tools.protoc -I platform --python_out=platform --pyi_out=platform \
        platform/motoric/serving/open_inference/grpc/grpc_predict_v2.proto

Protobuf keeps one table of message names a process, and tritonclient.grpc and kserve bring messages
of the same names: neither can be imported where `grpc_predict_v2_pb2` is.
"""

SERVICE = "inference.GRPCInferenceService"
METHODS = (
    "ServerLive",
    "ServerReady",
    "ServerMetadata",
    "ModelReady",
    "ModelMetadata",
    "ModelInfer",
)
# What Serve is told to import in each process that takes calls.
SERVICER_FUNCTION = "motoric.serving.open_inference.grpc.servicer.add_to_server"
