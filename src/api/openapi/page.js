// Starts Swagger UI on the document beside it. Keys typed into "Authorize" stay in this page.
SwaggerUIBundle({
  url: 'openapi.json',
  dom_id: '#api',
  deepLinking: true,
  validatorUrl: null,
  defaultModelsExpandDepth: 0,
  docExpansion: 'list',
  persistAuthorization: false,
});
