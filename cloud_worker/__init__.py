"""The cloud half: takes frames off the bus, finishes the inference in torch, replies. Never imports TFLite."""
