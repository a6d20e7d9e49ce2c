"""What uvicorn loads: the service, and the pages on top of it."""

from dashboards import app as pages
from service.app import create_app

app = create_app(error_page=pages.error_page, on_start=[pages.warm_up])
app.include_router(pages.router)
