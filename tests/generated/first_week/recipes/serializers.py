from django.contrib.auth import get_user_model
from rest_framework import serializers

from .models import LEVELS, Recipe

User = get_user_model()


class PlainRecipeSerializer(serializers.Serializer):
    id = serializers.IntegerField(read_only=True)
    title = serializers.CharField(required=False, allow_blank=True, max_length=100)
    text = serializers.CharField(style={"base_template": "textarea.html"})
    level = serializers.ChoiceField(choices=LEVELS, default="easy")

    def validate_title(self, value):
        if value == "Toast":
            raise serializers.ValidationError("Toast needs no recipe.")
        return value

    def create(self, validated_data):
        return Recipe.objects.create(**validated_data)

    def update(self, instance, validated_data):
        instance.title = validated_data.get("title", instance.title)
        instance.text = validated_data.get("text", instance.text)
        instance.save()
        return instance


class RecipeSerializer(serializers.HyperlinkedModelSerializer):
    owner = serializers.ReadOnlyField(source="owner.username")
    highlight = serializers.HyperlinkedIdentityField(
        view_name="recipe-highlight", format="html")

    class Meta:
        model = Recipe
        fields = ["url", "id", "highlight", "owner", "title", "text", "vegan", "level"]
        extra_kwargs = {"text": {"trim_whitespace": True}}


class UserSerializer(serializers.ModelSerializer):
    recipes = serializers.PrimaryKeyRelatedField(many=True, queryset=Recipe.objects.all())
    count = serializers.SerializerMethodField()

    class Meta:
        model = User
        fields = ["id", "username", "recipes", "count"]

    def get_count(self, obj):
        return obj.recipes.count()
