//! Bootstrap and protobuf in, compiled runtime objects or rejections out.
