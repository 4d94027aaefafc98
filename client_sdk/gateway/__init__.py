"""The HTTP that other projects' clients speak, in front of a Triton server: what `gateway` starts.

    uvicorn.run(create_app(GatewaySettings(triton="localhost:8001")))

It needs what `bert-on-triton[gateway]` installs.
"""

from client_sdk.gateway.app import create_app
from client_sdk.gateway.settings import GatewaySettings

__all__ = ["GatewaySettings", "create_app"]
