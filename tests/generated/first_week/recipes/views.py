from django.contrib.auth import get_user_model
from django.http import Http404
from rest_framework import generics, mixins, permissions, renderers, status, viewsets
from rest_framework.decorators import action, api_view
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from .models import Recipe
from .permissions import IsOwnerOrReadOnly
from .serializers import PlainRecipeSerializer, RecipeSerializer, UserSerializer

User = get_user_model()


class RecipeViewSet(viewsets.ModelViewSet):
    queryset = Recipe.objects.all()
    serializer_class = RecipeSerializer
    permission_classes = [permissions.IsAuthenticatedOrReadOnly, IsOwnerOrReadOnly]

    @action(detail=True, renderer_classes=[renderers.StaticHTMLRenderer])
    def highlight(self, request, *args, **kwargs):
        recipe = self.get_object()
        return Response(recipe.highlighted)

    def perform_create(self, serializer):
        serializer.save(owner=self.request.user)


class UserViewSet(viewsets.ReadOnlyModelViewSet):
    queryset = User.objects.all().order_by("-date_joined")
    serializer_class = UserSerializer


@api_view(["GET", "POST"])
def recipe_list(request, format=None):
    """
    List all recipes, or add one.
    """
    if request.method == "GET":
        recipes = Recipe.objects.all()
        serializer = PlainRecipeSerializer(recipes, many=True)
        return Response({"recipes": serializer.data, "page": reverse("plain", request=request)})

    elif request.method == "POST":
        serializer = PlainRecipeSerializer(data=request.data)
        if serializer.is_valid():
            serializer.save(owner=request.user)
            return Response(serializer.data, status=status.HTTP_201_CREATED)
        return Response(serializer.errors, status=status.HTTP_400_BAD_REQUEST)


class RecipeDetail(APIView):
    def get_object(self, pk):
        try:
            return Recipe.objects.get(pk=pk)
        except Recipe.DoesNotExist:
            raise Http404

    def get(self, request, pk, format=None):
        recipe = self.get_object(pk)
        serializer = PlainRecipeSerializer(recipe)
        return Response(serializer.data)

    def delete(self, request, pk, format=None):
        self.get_object(pk).delete()
        return Response(status=status.HTTP_204_NO_CONTENT)


class RecipeMixins(mixins.ListModelMixin, mixins.CreateModelMixin, generics.GenericAPIView):
    queryset = Recipe.objects.all()
    serializer_class = PlainRecipeSerializer

    def get(self, request, *args, **kwargs):
        return self.list(request, *args, **kwargs)


class UserList(generics.ListAPIView):
    queryset = User.objects.order_by("username")
    serializer_class = UserSerializer
