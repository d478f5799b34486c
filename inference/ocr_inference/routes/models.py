"""`GET /v1/models`, in OpenAI's shape."""

from aiohttp import web

from ocr_inference.keys import CONFIG, STARTED, respond


async def models(request: web.Request) -> web.Response:
    app = request.app
    return respond(
        {
            "object": "list",
            "data": [
                {
                    "id": model.name,
                    "object": "model",
                    "created": app[STARTED],
                    "owned_by": "ocr-operator",
                }
                for model in app[CONFIG].models
            ],
        }
    )
